"""Lines of a stream for a parser that may have to go back to the beginning of a row. Bounded memory."""

import re
from collections import deque
from typing import TextIO

LONGEST_LINE = 1_048_576
"""Characters; a longer line is cut and rejected. Far above any real cell, and as UTF-8 far below Kafka's limit."""

MOST_LINES = 1000
"""Lines that one row with quoted newlines may have. It bounds what an unclosed quote reads ahead."""

Edit = tuple[re.Pattern[str], str]


class Unfinished(Exception):
    """The row did not end within bounds: most likely its quote is never closed."""


class TooLong(Exception):
    """The line is longer than LONGEST_LINE."""


class RowLines:
    """Feeds csv.reader line by line and remembers the lines of the row that it is reading, so that it can go back."""

    def __init__(self, stream: TextIO, comment: str | None, edits: tuple[Edit, ...]) -> None:
        self._readline = stream.readline
        self._comment = comment
        self._again: deque[str] = deque()
        self._size = 0
        self._skip_lf = self._ended_in_cr = False
        self.row: list[str] = []
        self.number = 0
        self.unfinished: tuple[str, int] | None = None
        """The text from the first row on that more text at the end of the file could change, and the lines before."""
        self.edits = edits
        """Replacements in every line before it is parsed; `row` keeps it as it is."""

    def __iter__(self) -> "RowLines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        row = self.row
        if self._comment is not None and not row:
            while line.startswith(self._comment, not self.number and line.startswith("\ufeff")):
                self.number += 1
                if line[-1] not in "\r\n":
                    row.append(line)
                    self.skip_line()
                    row.clear()
                line = self._again.popleft() if self._again else self._read()
        if not line:
            if row:
                self._note_unfinished()
                raise Unfinished
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
                raise Unfinished
        else:
            self._size = len(line)
            if len(line) >= LONGEST_LINE and line[-1] not in "\r\n":
                raise TooLong
        for pattern, replacement in self.edits:
            line = pattern.sub(replacement, line)
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
        """The number of lines read, and whether the last one ended in CR; None inside lines that are read again."""
        if self._again or self.unfinished is not None:
            return None
        return self.number, self._ended_in_cr

    def go_on(self, number: int, *, after_cr: bool) -> None:
        """Count the next line as the one after so many."""
        self._again.clear()
        self.row.clear()
        self.number, self._skip_lf, self.unfinished = number, after_cr, None

    def first_number(self) -> int:
        """Line number of the row's first line."""
        return self.number - len(self.row) + 1

    def go_back(self) -> str:
        """Give up the row: return its first line, and feed the others again."""
        first = self.row.pop(0)
        self.feed_again()
        return first

    def feed_again(self) -> None:
        """Give up the row, and feed all its lines again."""
        self._again.extendleft(reversed(self.row))
        self.number -= len(self.row)
        self.row.clear()

    def skip_line(self) -> None:
        """Read over the rest of a line that was cut, or over the next one."""
        while piece := self._readline(LONGEST_LINE):
            if piece[-1] in "\r\n":
                return
        self._note_unfinished()
