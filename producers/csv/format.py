"""Finds out a CSV file's encoding and delimiter from a bounded sample of it."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from producers.text.found_encoding import SAMPLE_BYTES, TextEncoding, find_encoding
from schemas.members import plain_name

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_ROWS = 30

_NOT_CSV = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook: save it as CSV first",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as CSV first",
    b"%PDF": "a PDF document",
}


class CsvFormat(NamedTuple):
    """How to read a CSV file."""

    encoding: str
    delimiter: str
    skip_lines: int = 0
    """Lines before the header."""


class NotCsv(ValueError):
    """The file is something else; the message says what and what to do."""


_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
"""What spreadsheets write into the first line, and do not take for a row."""


def detect_encoding(path: Path, setting: str | None = None, served: str | None = None) -> TextEncoding:
    """The encoding of a file, by a sample of it (blocks). Raises OSError, NotCsv, UnsureEncoding."""
    sample = _sample(path)
    for magic, what in _NOT_CSV.items():
        if sample.startswith(magic):
            raise NotCsv(f"this is no CSV but {what}")
    return find_encoding(sample, setting, served)


def detect_format(
    path: Path, encoding: str, delimiter: str | None = None, skip_lines: int = 0, comment: str | None = None
) -> CsvFormat:
    """The format of a file in that encoding; what is given is taken as it is. Reads a sample (blocks); OSError."""
    lines = _first_lines(_sample(path), encoding, skip_lines)
    if not skip_lines and lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
        return CsvFormat(encoding, delimiter or separator[1], 1)
    if delimiter is None:
        delimiter = _delimiter_of([line for line in lines if comment is None or not line.startswith(comment)])
    return CsvFormat(encoding, delimiter, skip_lines)


def find_columns(path: Path, found: CsvFormat, columns: Collection[str]) -> CsvFormat | None:
    """The format with which the first line that has all these columns would be the header. Blocking; raises OSError."""
    lines = _first_lines(_sample(path), found.encoding)
    for delimiter in (found.delimiter, *DELIMITERS):
        for number, line in enumerate(lines):
            row = next(csv.reader([line], delimiter=delimiter), [])
            if set(columns) <= {plain_name(cell.strip()) for cell in row}:
                return CsvFormat(found.encoding, delimiter, number)
    return None


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SAMPLE_BYTES)


def detect_delimiter(sample: str) -> str:
    """The candidate that splits the first rows most evenly, then into most columns; a comma if none does."""
    return _delimiter_of(list(islice(io.StringIO(sample, newline=""), SNIFFED_ROWS)))


def _first_lines(sample: bytes, encoding: str, skip: int = 0) -> list[str]:
    text = sample.decode(encoding, "replace").removeprefix("\ufeff")
    lines = list(islice(io.StringIO(text, newline=""), skip, skip + SNIFFED_ROWS))
    if len(lines) > 1 and len(sample) == SAMPLE_BYTES and not lines[-1].endswith(("\n", "\r")):
        lines.pop()
    return lines


def _delimiter_of(lines: Sequence[str]) -> str:
    csv.field_size_limit(2 * SAMPLE_BYTES)  # global, and 128 KiB by default: a longer cell would be an error
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if any(row)]
        if widths and widths[0] > 1:
            score = (Counter(widths)[widths[0]] / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best
