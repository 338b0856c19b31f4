"""Output of commands that is text and nothing but text, wherever it comes from."""

import codecs
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from runtime.printable import Escapes, printable


class PrintableConsole(Console):
    """A console on which no text, from wherever, is anything but text: what `printable` has not seen yet, it sees here.

    Line feeds are line feeds.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Console's, for all that is printed."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            shown = text if control else "\n".join(map(printable, text.split("\n")))
            yield segment if shown == text else Segment(shown, style)


def json_text(value: Any, *, indent: int = -1) -> str:
    """The value as JSON, in one line unless indented, with such characters as JSON's own escapes: the same value."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()
    return "\n".join(line.translate(_JSON_ESCAPES) for line in text.split("\n"))


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


_JSON_ESCAPES = Escapes(_json_escape)

ESCAPED = "escaped_as_in_json"
"""Name of the error handler for streams of another encoding than UTF-8: JSON stays the same JSON, text can be read."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_json_escape, error.object[error.start : error.end])), error.end


codecs.register_error(ESCAPED, _escaped)
