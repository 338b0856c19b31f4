"""Text from outside on a terminal: what would move the cursor, change colours or turn the line round is shown."""

import re

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters written as escapes, line feeds too: one line in, one line out. Pure."""
    if text.isprintable():
        return text  # nearly always, and told ten times as fast
    return UNSAFE.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
