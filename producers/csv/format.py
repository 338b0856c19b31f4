"""The form of a CSV file, by a bounded sample of its beginning: encoding, delimiter, header, decimal marks. Pure."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from producers.text.found_encoding import SAMPLE_BYTES, TextEncoding, binary_kind, find_encoding
from schemas.errors import InvalidField
from schemas.field_reading import plain_name
from schemas.fields import Decimals, Number, decimal_mark

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_ROWS = 30

FEWEST_ROWS = 3
"""Of fewer rows with a cell too many it can't be said that all of the file are so."""

_SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
"""The first line of some spreadsheets' files; they do not take it for a row."""

_ANY_NUMBER = Number(digits=26, places=10, decimal="unsure")


class CsvFormat(NamedTuple):
    """Encoding and delimiter of a CSV file, and the lines before its header."""

    encoding: str
    delimiter: str
    skip_lines: int = 0


class NotCsv(ValueError):
    """The file is something else; the message says what and what to do."""


def detect_encoding(sample: bytes, setting: str | None = None, served: str | None = None) -> TextEncoding:
    """The encoding of a file. Raises NotCsv, UnsureEncoding."""
    if what := binary_kind(sample):
        way_out = "unpack it" if what.startswith("packed") else "save it as CSV"
        raise NotCsv(f"this is no CSV but {what}: {way_out} first")
    return find_encoding(sample, setting, served)


def detect_format(
    sample: bytes, encoding: str, delimiter: str | None = None, skip_lines: int = 0, comment: str | None = None
) -> CsvFormat:
    """The format of a file in that encoding; what is given is taken as it is."""
    lines = _first_lines(sample, encoding, skip_lines)
    if not skip_lines and lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
        return CsvFormat(encoding, delimiter or separator[1], 1)
    if delimiter is None:
        delimiter = detect_delimiter([line for line in lines if comment is None or not line.startswith(comment)])
    return CsvFormat(encoding, delimiter, skip_lines)


def detect_delimiter(lines: Sequence[str]) -> str:
    """The candidate that splits the rows most evenly, then into most columns; a comma if none does."""
    csv.field_size_limit(2 * SAMPLE_BYTES)  # global, and 128 KiB by default: a longer cell would be an error
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if any(row)]
        if widths and widths[0] > 1:
            score = (Counter(widths)[widths[0]] / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def find_columns(sample: bytes, found: CsvFormat, columns: Collection[str]) -> CsvFormat | None:
    """The format with which the first line that has all these columns would be the header."""
    lines = _first_lines(sample, found.encoding)
    for delimiter in (found.delimiter, *DELIMITERS):
        for number, line in enumerate(lines):
            row = next(csv.reader([line], delimiter=delimiter), [])
            if set(columns) <= {plain_name(cell.strip()) for cell in row}:
                return CsvFormat(found.encoding, delimiter, number)
    return None


def column_names(header: Sequence[str]) -> list[str]:
    """Names for all columns: trimmed; one without a name is `column_<number>`; a repeated one gets `_2`, `_3`, …"""
    names: dict[str, None] = {}
    repeats: dict[str, int] = {}
    for number, cell in enumerate(header, start=1):
        base = name = plain_name(cell.strip()) or f"column_{number}"
        while name in names:
            repeats[base] = repeats.get(base, 1) + 1
            name = f"{base}_{repeats[base]}"
        names[name] = None
    return list(names)


def only_in_rows(rows: Sequence[Sequence[str]], width: int) -> bool:
    """True if all rows have one cell more than the header, as R writes row names, and something in the last cell."""
    return len(rows) >= FEWEST_ROWS and all(len(row) == width + 1 and row[-1].strip() for row in rows)


def decimals_found(
    rows: Sequence[Sequence[str]], places: Mapping[str, int], *, sure_of_point: bool
) -> dict[str, Decimals | None]:
    """The decimal mark of each field by the numbers in its place that can be read in one way only; None: a point.

    A field whose numbers show none is like the others, where these agree; else each of its numbers is judged by itself.
    A point is then the decimal mark, if that is sure, as where commas separate columns.
    """
    marks = {name: _marks([row[place] for row in rows if place < len(row)]) for name, place in places.items()}
    everywhere = set().union(*marks.values())
    known: dict[str, Decimals | None] = {".": None, ",": ",", "": "unsure_comma" if sure_of_point else "unsure"}
    return {name: known.get("".join(found or everywhere), "unsure") for name, found in marks.items()}


def _first_lines(sample: bytes, encoding: str, skip: int = 0) -> list[str]:
    text = sample.decode(encoding, "replace").lstrip("\ufeff")
    lines = list(islice(io.StringIO(text, newline=""), skip, skip + SNIFFED_ROWS))
    if len(lines) > 1 and len(sample) == SAMPLE_BYTES and not lines[-1].endswith(("\n", "\r")):
        lines.pop()
    return lines


def _marks(texts: Sequence[str]) -> set[str]:
    marks: set[str] = set()
    for text in texts:
        if (mark := decimal_mark(" ".join(text.split()))) and mark not in marks:
            with suppress(InvalidField):
                marks |= {mark} if _ANY_NUMBER.normalize(text) is not None else set()
    return marks
