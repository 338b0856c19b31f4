"""Text from outside on a terminal: what would move the cursor, change colours or turn the line round is shown."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters written as escapes, line feeds too: one line in, one line out. Pure."""
    return _UNSAFE.sub(lambda found: _escaped(found[0]), text)


class PrintableConsole(Console):
    """A console on which no text, from wherever, is anything but text: what `printable` has not seen yet, it sees here.

    Line feeds are line feeds.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Console's, for all that is printed."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or not _UNSAFE.search(text):
                yield segment
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), style)


def json_text(value: Any, *, indent: int = -1) -> str:
    """The value as JSON, in one line unless indented, with such characters as JSON's own escapes: the same value."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()
    lines = (_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n"))
    return "\n".join(lines)


def _escaped(character: str) -> str:
    code = ord(character)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
