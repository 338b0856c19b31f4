"""Rows of a CSV stream: well-formed ones as lists of text, others with the reason and their bytes. Constant memory."""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from producers.csv.format import NotCsv

LONGEST_LINE = 1_048_576
"""Characters; a longer line is cut and rejected. Far above any real cell, and as UTF-8 far below Kafka's limit."""

MOST_LINES = 1000
"""Lines that one row with quoted newlines may have. It bounds what an unclosed quote reads ahead."""

MOST_READ_AGAIN = 20
"""Times that a line is read again, on the average of a file of many lines. Stray quotes need two: the next one ends
what the first has opened. Lines like `x","y` would need MOST_LINES."""

ALWAYS_READ_AGAIN = 100_000
"""Lines that any file may have read again."""

UNDECODABLE = "headrace.keep-undecodable"
"""Error handler for decoding: an undecodable byte becomes a lone surrogate (0xDC00 + byte), and back when encoding.

Like Python's `surrogateescape`, but for every byte and every codec.
"""

_STATEFUL = ("iso2022", "hz", "utf-7")
"""Codecs in which the meaning of bytes depends on those before, which Python can't save and restore (it may crash)."""

_Edit = tuple[re.Pattern[str], str]


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


class _Unfinished(Exception):
    """The row did not end within bounds: most likely its quote is never closed."""


class _TooLong(Exception):
    """The line is longer than LONGEST_LINE."""


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

    A byte order mark before a row is no part of it. A row like `header` is rejected.
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
        self.header: list[str] | None = None
        self.unnamed = self.blank = 0
        self._comment = comment
        cell_ends = rf"(?=[{re.escape(delimiter)}\r\n]|$)"
        self._mending: _Edit = (re.compile(rf'(?<!")"[ \t]+{cell_ends}'), '"')
        cell_begins = rf"(?<![^{re.escape(delimiter)}])"
        self._texts: tuple[_Edit, ...] = (  # ="007", quoted or not: spreadsheets' way to say that it is no number
            (re.compile(rf'{cell_begins}="([^"\r\n]+)"{cell_ends}'), r'"\1"'),
            (re.compile(rf'{cell_begins}"=""([^"\r\n]+)"""{cell_ends}'), r'"\1"'),
        )
        # A blank before a quote is no part of the value; Python refuses to say so where it is the delimiter.
        self._dialect: dict[str, Any] = {
            "delimiter": delimiter, "strict": True, "skipinitialspace": delimiter != " ", "escapechar": escape,
        }  # fmt: skip
        self._text = io.TextIOWrapper(stream, encoding=encoding, errors=UNDECODABLE, newline="")
        self._escapes: tuple[_Edit, ...] = ()
        if escape is not None:  # databases write \N for nothing, and csv would make an N of it
            null = re.compile(rf"(?<![^{re.escape(delimiter)}]){re.escape(escape)}N{cell_ends}")
            self._escapes = ((null, f"{escape}{escape}N".replace("\\", r"\\")),)
        self._edits: tuple[_Edit, ...] = self._escapes
        """Replacements in every line before it is parsed; `_row` keeps it as it is."""
        self._row: list[str] = []
        """Lines of the row that is being read."""
        self._again: deque[str] = deque()
        """Lines that a row has given up: they are read next."""
        self._number = 0
        self._skip_lf = self._ended_in_cr = False
        self._unfinished: tuple[str, int] | None = None
        self._read_again = 0

    def __iter__(self) -> Iterator[list[str] | BadRow]:
        # Our own bound on lines is the tighter one; csv's is global and 128 KiB by default.
        csv.field_size_limit(2 * LONGEST_LINE)
        while True:
            reader = csv.reader(self._lines(), **self._dialect)
            try:
                for values in reader:
                    if values and (not values[0] or values[0].isspace()) and not any(map(str.strip, values)):
                        self.blank += 1
                    elif self.width is None or len(values) == self.width or not values:
                        if values:
                            yield values if values != self.header else self._header_again()
                    elif fitted := self._fitted(values, self.width):
                        yield fitted
                    else:
                        yield self._rejected("ragged_row", f"{len(values)} columns, expected {self.width}")
                        continue
                    self._row.clear()
                    self._edits = self._escapes
            except _TooLong:
                self._skip_line()
                yield self._rejected("row_too_long", f"over {LONGEST_LINE:,} characters, only its beginning is kept")
            except _Unfinished:
                yield self._rejected("unclosed_quote", "a quote is opened and not closed")
            except csv.Error as error:
                if not self._mended():
                    yield self._rejected("malformed_row", f"{error} ({self._advice()})")
            else:
                return

    def skip_lines(self, count: int) -> None:
        """Read over the first lines of the stream, whatever is in them."""
        for _ in range(count):
            self._skip_line()
            self._number += 1

    def place(self) -> RowPlace | None:
        """The beginning of the next row; None while it can't be told, as inside lines that are read again."""
        if self._again or self._unfinished or codecs.lookup(self.encoding).name.startswith(_STATEFUL):
            return None
        return RowPlace(self._text.tell(), self._number, self._ended_in_cr)

    def go_on(self, place: RowPlace) -> None:
        """Read on from a place in the same bytes. To be called between two rows."""
        self._text.seek(place.offset)
        self._again.clear()
        self._row.clear()
        self._number, self._skip_lf, self._unfinished = place.lines, place.after_cr, None

    def unfinished(self) -> tuple[bytes, int] | None:
        """At the end: the bytes of the last rows that more bytes could change, and the number of lines before them."""
        return self._unfinished and (self._encoded(self._unfinished[0]), self._unfinished[1])

    def payload(self) -> bytes:
        """The current row as it is in the file."""
        return self._encoded("".join(self._row))

    def line_number(self) -> int:
        """The current row's first line, from 1."""
        return self._number - len(self._row) + 1

    def _lines(self) -> Iterator[str]:
        """Lines for csv.reader, to the end of the stream. Raises _TooLong, _Unfinished."""
        row, again, read, comment = self._row, self._again, self._read, self._comment
        size = 0
        while True:
            line = again.popleft() if again else read()
            if comment is not None and not row:
                while line.lstrip("\ufeff").startswith(comment):
                    self._number += 1
                    if line[-1] not in "\r\n":
                        row.append(line)
                        self._skip_line()
                        row.clear()
                    line = again.popleft() if again else read()
            if not line:
                if row:
                    self._note_unfinished()
                    raise _Unfinished
                return
            if not row:  # files that were put together have marks in the middle
                line = line.lstrip("\ufeff")
            self._number += 1
            row.append(line)
            ended = line.endswith(("\n", "\r"))
            if not ended and len(line) < LONGEST_LINE:
                self._note_unfinished()
            if len(row) > 1:
                size += len(line)
                if len(row) > MOST_LINES or size > LONGEST_LINE:
                    raise _Unfinished
            else:
                size = len(line)
                if size >= LONGEST_LINE and not ended:
                    raise _TooLong
            if '="' in line:
                for pattern, replacement in self._texts:
                    line = pattern.sub(replacement, line)
            for pattern, replacement in self._edits:
                line = pattern.sub(replacement, line)
            yield line

    def _read(self) -> str:
        line = self._text.readline(LONGEST_LINE)
        if self._skip_lf:
            self._skip_lf = False
            if line == "\n":  # the other half of a line end whose first half was the end of the file then
                line = self._text.readline(LONGEST_LINE)
        if line:
            self._ended_in_cr = line.endswith("\r")
        return line

    def _skip_line(self) -> None:
        """Read over the rest of a line that was cut, or over the next one."""
        while piece := self._text.readline(LONGEST_LINE):
            if piece[-1] in "\r\n":
                return
        self._note_unfinished()

    def _note_unfinished(self) -> None:
        """Note the text from the first row on that more text at the end could change, and the lines before it."""
        if self._unfinished is None:
            self._unfinished = ("".join(self._row), self._number - len(self._row))

    def _fitted(self, values: list[str], width: int) -> list[str] | None:
        """A row with as many cells as there are columns, if only blank ones are missing or too many."""
        if width - self.unnamed <= len(values) < width:
            return values + [""] * (width - len(values))
        return None if any(map(str.strip, values[width:])) or len(values) < width else values[:width]

    def _mended(self) -> bool:
        """True if blanks after a closing quote may be the fault; they are then taken out, of this row only.

        What a row gives depends on no other row: a run that goes on in the middle reads the same.
        """
        if self._mending in self._edits or not any(map(self._mending[0].search, self._row)):
            return False
        self._edits = (*self._escapes, self._mending)
        self._give_up()
        return True

    def _header_again(self) -> BadRow:
        message = f"line {self.line_number()}: the names of the columns again, and no record"
        return BadRow("repeated_header", message, self.payload())

    def _advice(self) -> str:
        advice = "a quote inside a quoted value must be doubled"
        escaped = any('\\"' in line for line in self._row)
        return f"{advice}; where \\ stands before it, set `escape`" if escaped else advice

    def _rejected(self, reason: str, message: str) -> BadRow:
        """Give up the row's first line; those after it are read again."""
        number, first = self.line_number(), self._row.pop(0)
        self._edits = self._escapes
        self._give_up()
        return BadRow(reason, f"line {number}: {message}", self._encoded(first))

    def _give_up(self) -> None:
        """Have all lines of the row read again. Raises NotCsv where that has no end."""
        self._read_again += len(self._row)
        if self._read_again > ALWAYS_READ_AGAIN + MOST_READ_AGAIN * self._number:
            number = self.line_number()
            raise NotCsv(f"line {number}: quotes open before quotes close, row after row; set `delimiter` or `escape`")
        self._again.extendleft(reversed(self._row))
        self._number -= len(self._row)
        self._row.clear()

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode(self.encoding, UNDECODABLE)
        except UnicodeError:  # a codec of more than one byte a character cannot hold a single stray byte
            return text.encode("utf-8", "backslashreplace")
