"""Rows of a CSV stream: well-formed ones as lists of text, others with the reason and their bytes. Constant memory."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from producers.csv.lines import LONGEST_LINE, Edit, RowLines, TooLong, Unfinished

UNDECODABLE = "headrace.keep-undecodable"
"""Error handler for decoding: an undecodable byte becomes a lone surrogate (0xDC00 + byte), and back when encoding.

Like Python's `surrogateescape`, but for every byte and every codec.
"""


_STATEFUL = ("iso2022", "hz", "utf-7")
"""Codecs in which the meaning of bytes depends on those before, which Python can't save and restore (it may crash)."""


class BadRow(NamedTuple):
    """A row that cannot be read: reason code, message with its line number, and its bytes as they are in the file."""

    reason: str
    message: str
    payload: bytes


class RowPlace(NamedTuple):
    """Between two rows. `offset` is in bytes unless it is over 2^64: then it also holds the state of a decoder."""

    offset: int
    lines: int
    after_cr: bool


def _keep_undecodable(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        end = max(error.end, error.start + 1)
        return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : end]), end
    if isinstance(error, UnicodeEncodeError):
        marks = error.object[error.start : error.end]
        if all(0xDC00 <= ord(mark) <= 0xDCFF for mark in marks):
            return bytes(ord(mark) - 0xDC00 for mark in marks), error.end
    raise error


codecs.register_error(UNDECODABLE, _keep_undecodable)


class CsvRows:
    """Reads a binary stream. Blank lines are no rows, nor are those of blank cells, which are counted in `blank`.

    `width` is the number of columns once the header is known, `unnamed` how many of the last have no name there: rows
    may lack these, and may have blank cells beyond the last column.
    A row that is malformed, unfinished, or spans lines and has the wrong width gives up its first line only: reading
    goes on at the line after it, so a stray quote costs one line and not its neighbours.
    """

    def __init__(
        self, stream: BinaryIO, encoding: str, delimiter: str, comment: str | None = None, escape: str | None = None
    ) -> None:
        self.encoding = encoding
        self.width: int | None = None
        self.unnamed = self.blank = 0
        cell_ends = rf"(?=[{re.escape(delimiter)}\r\n]|$)"
        self._mending: Edit = (re.compile(rf'(?<!")"[ \t]+{cell_ends}'), '"')
        # A blank before a quote is no part of the value; Python refuses to say so where it is the delimiter.
        self._dialect: dict[str, Any] = {
            "delimiter": delimiter, "strict": True, "skipinitialspace": delimiter != " ", "escapechar": escape,
        }  # fmt: skip
        self._text = io.TextIOWrapper(stream, encoding=encoding, errors=UNDECODABLE, newline="")
        self._edits: tuple[Edit, ...] = ()
        if escape is not None:  # databases write \N for nothing, and csv would make an N of it
            null = re.compile(rf"(?<![^{re.escape(delimiter)}]){re.escape(escape)}N{cell_ends}")
            self._edits = ((null, f"{escape}{escape}N".replace("\\", r"\\")),)
        self._lines = RowLines(self._text, comment, self._edits)

    def __iter__(self) -> Iterator[list[str] | BadRow]:
        # Our own bound on lines is the tighter one; csv's is global and 128 KiB by default.
        csv.field_size_limit(2 * LONGEST_LINE)
        lines = self._lines
        while True:
            reader = csv.reader(lines, **self._dialect)
            try:
                for values in reader:
                    if values and (not values[0] or values[0].isspace()) and not any(map(str.strip, values)):
                        self.blank += 1
                    elif self.width is None or len(values) == self.width or not values:
                        if values:
                            yield values
                    elif fitted := self._fitted(values, self.width):
                        yield fitted
                    else:
                        yield self._rejected("ragged_row", f"{len(values)} columns, expected {self.width}")
                        continue
                    lines.row.clear()
                    lines.edits = self._edits
            except TooLong:
                lines.skip_line()
                yield self._rejected("row_too_long", f"over {LONGEST_LINE:,} characters, only its beginning is kept")
            except Unfinished:
                yield self._rejected("unclosed_quote", "a quote is opened and not closed")
            except csv.Error as error:
                if not self._mended():
                    yield self._rejected("malformed_row", f"{error} ({self._advice()})")
            else:
                return

    def skip_lines(self, count: int) -> None:
        """Read over the first lines of the stream, whatever is in them."""
        for _ in range(count):
            self._lines.skip_line()
            self._lines.number += 1

    def _fitted(self, values: list[str], width: int) -> list[str] | None:
        """A row with as many cells as there are columns, if only blank ones are missing or too many."""
        if width - self.unnamed <= len(values) < width:
            return values + [""] * (width - len(values))
        return None if any(map(str.strip, values[width:])) or len(values) < width else values[:width]

    def _mended(self) -> bool:
        """True if blanks after a closing quote may be the fault; they are then taken out, of this row only.

        What a row gives depends on no other row: a run that goes on in the middle reads the same.
        """
        lines = self._lines
        if self._mending in lines.edits or not any(map(self._mending[0].search, lines.row)):
            return False
        lines.edits = (*self._edits, self._mending)
        lines.feed_again()
        return True

    def _advice(self) -> str:
        advice = "a quote inside a quoted value must be doubled"
        escaped = any('\\"' in line for line in self._lines.row)
        return f"{advice}; where \\ stands before it, set `escape`" if escaped else advice

    def place(self) -> RowPlace | None:
        """The beginning of the next row; None while it can't be told."""
        if codecs.lookup(self.encoding).name.startswith(_STATEFUL):
            return None
        place = self._lines.place()
        return None if place is None else RowPlace(self._text.tell(), *place)

    def unfinished(self) -> tuple[bytes, int] | None:
        """At the end: the bytes of the last rows that more bytes could change, and the number of lines before them."""
        if self._lines.unfinished is None:
            return None
        text, lines = self._lines.unfinished
        return self._encoded(text), lines

    def go_on(self, place: RowPlace) -> None:
        """Read on from a place in the same bytes. To be called between two rows."""
        self._text.seek(place.offset)
        self._lines.go_on(place.lines, after_cr=place.after_cr)

    def payload(self) -> bytes:
        """The current row as it is in the file."""
        return self._encoded("".join(self._lines.row))

    def line_number(self) -> int:
        """The current row's first line, from 1."""
        return self._lines.first_number()

    def _rejected(self, reason: str, message: str) -> BadRow:
        number = self._lines.first_number()
        self._lines.edits = self._edits
        return BadRow(reason, f"line {number}: {message}", self._encoded(self._lines.go_back()))

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode(self.encoding, UNDECODABLE)
        except UnicodeError:  # a codec of more than one byte a character cannot hold a single stray byte
            return text.encode("utf-8", "backslashreplace")
