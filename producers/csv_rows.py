"""Rows of a CSV stream: well-formed ones as lists of text, others with the reason and their bytes. Constant memory."""

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, TextIO

LONGEST_LINE = 1_048_576
"""Characters; a longer line is cut and rejected. Far above any real cell, and as UTF-8 far below Kafka's limit."""

MOST_LINES = 1000
"""Lines that one row with quoted newlines may have. It bounds what an unclosed quote reads ahead."""

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


class Place(NamedTuple):
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


class _Lines:
    """Feeds csv.reader line by line and remembers the lines of the row that it is reading, so that it can go back."""

    def __init__(self, stream: TextIO) -> None:
        self._readline = stream.readline
        self._again: deque[str] = deque()
        self._size = 0
        self._skip_lf = self._ended_in_cr = False
        self.row: list[str] = []
        self.number = 0
        self.unfinished: tuple[str, int] | None = None
        """The text from the first row on that more text at the end of the file could change, and the lines before."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        row = self.row
        if not line:
            if row:
                self._note_unfinished()
                raise _Unfinished
            raise StopIteration
        if not self.number:
            line = line.removeprefix("\ufeff")
        self.number += 1
        row.append(line)
        if not line.endswith(("\n", "\r")) and len(line) < LONGEST_LINE:
            self._note_unfinished()
        if len(row) > 1:
            self._size += len(line)
            if len(row) > MOST_LINES or self._size > LONGEST_LINE:
                raise _Unfinished
        else:
            self._size = len(line)
            if len(line) >= LONGEST_LINE and line[-1] not in "\r\n":
                raise _TooLong
        return line

    def _read(self) -> str:
        line = self._readline(LONGEST_LINE)
        if self._skip_lf:
            self._skip_lf = False
            if line == "\n":  # the other half of a line end whose first half was the end of the file then
                line = self._readline(LONGEST_LINE)
        if line:
            self._ended_in_cr = line.endswith("\r")
        return line

    def _note_unfinished(self) -> None:
        if self.unfinished is None:
            self.unfinished = ("".join(self.row), self.number - len(self.row))

    def place(self) -> tuple[int, bool] | None:
        """How many lines have been read, and whether the last one ended in CR; None inside what is read again."""
        if self._again or self.unfinished is not None:
            return None
        return self.number, self._ended_in_cr

    def go_on(self, number: int, *, after_cr: bool) -> None:
        """What is read from now on follows so many lines."""
        self._again.clear()
        self.row.clear()
        self.number, self._skip_lf, self.unfinished = number, after_cr, None

    def first_number(self) -> int:
        """Line number of the row's first line."""
        return self.number - len(self.row) + 1

    def go_back(self) -> str:
        """Give up the row: return its first line, and feed the others again."""
        first, *rest = self.row
        self._again.extendleft(reversed(rest))
        self.number -= len(rest)
        self.row.clear()
        return first

    def skip_line(self) -> None:
        """Read over the rest of a line that was cut."""
        while piece := self._readline(LONGEST_LINE):
            if piece[-1] in "\r\n":
                return
        self._note_unfinished()


class CsvRows:
    """Reads a binary stream. Blank lines are no rows. `width` is the number of columns once the header is known.

    A row that is malformed, unfinished, or spans lines and has the wrong width gives up its first line only: reading
    goes on at the line after it, so a stray quote costs one line and not its neighbours.
    """

    def __init__(self, stream: BinaryIO, encoding: str, delimiter: str) -> None:
        self.encoding = encoding
        self.width: int | None = None
        self._delimiter = delimiter
        self._text = io.TextIOWrapper(stream, encoding=encoding, errors=UNDECODABLE, newline="")
        self._lines = _Lines(self._text)

    def __iter__(self) -> Iterator[list[str] | BadRow]:
        # Our own bound on lines is the tighter one; csv's is global and 128 KiB by default.
        csv.field_size_limit(2 * LONGEST_LINE)
        lines = self._lines
        while True:
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            try:
                for values in reader:
                    if self.width is None or len(values) == self.width or not values:
                        if values:
                            yield values
                        lines.row.clear()
                    else:
                        yield self._rejected("ragged_row", f"{len(values)} columns, expected {self.width}")
            except _TooLong:
                lines.skip_line()
                yield self._rejected("row_too_long", f"over {LONGEST_LINE:,} characters, only its beginning is kept")
            except _Unfinished:
                yield self._rejected("unclosed_quote", "a quote is opened and not closed")
            except csv.Error as error:
                yield self._rejected("malformed_row", f"{error} (a quote inside a quoted value must be doubled)")
            else:
                return

    def place(self) -> Place | None:
        """Where the next row begins; None while it can't be told."""
        if codecs.lookup(self.encoding).name.startswith(_STATEFUL):
            return None
        place = self._lines.place()
        return None if place is None else Place(self._text.tell(), *place)

    def unfinished(self) -> tuple[bytes, int] | None:
        """At the end: the bytes of the last rows that more bytes could change, and the number of lines before them."""
        if self._lines.unfinished is None:
            return None
        text, lines = self._lines.unfinished
        return self._encoded(text), lines

    def go_on(self, place: Place) -> None:
        """Read on from a place in the same bytes. To be called between two rows."""
        self._text.seek(place.offset)
        self._lines.go_on(place.lines, after_cr=place.after_cr)

    def payload(self) -> bytes:
        """The current row as it is in the file."""
        return self._encoded("".join(self._lines.row))

    def line_number(self) -> int:
        """The current row's first line, from 1."""
        return self._lines.first_number()

    def close(self) -> None:
        """Close the stream."""
        self._text.close()

    def _rejected(self, reason: str, message: str) -> BadRow:
        number = self._lines.first_number()
        return BadRow(reason, f"line {number}: {message}", self._encoded(self._lines.go_back()))

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode(self.encoding, UNDECODABLE)
        except UnicodeError:  # a codec of more than one byte a character cannot hold a single stray byte
            return text.encode("utf-8", "backslashreplace")
