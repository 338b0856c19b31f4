"""The API's highlights as pieces of text: it marks matches by `<em>` in escaped HTML. Pure."""

import html
import re

_MARK = re.compile(r"(<em>|</em>)")


def pieces(marked: str) -> list[tuple[str, bool]]:
    """(text, is a match) one after the other. Whatever else looks like HTML stays the text that it was."""
    found, inside = [], False
    for part in _MARK.split(marked):
        if part in ("<em>", "</em>"):
            inside = part == "<em>"
        elif part:
            found.append((html.unescape(part), inside))
    return found
