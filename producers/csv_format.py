"""Finds out a CSV file's encoding and delimiter from a bounded sample of it."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from charset_normalizer import from_bytes

from schemas.members import plain_name

SAMPLE_BYTES = 1_048_576
GUESS_BYTES = 65_536
"""charset-normalizer is asked about this much at most: it takes seconds per MB."""

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_ROWS = 30

_BOMS = (  # UTF-32's begins with UTF-16's: longest first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_CSV = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook: save it as CSV first",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as CSV first",
    b"%PDF": "a PDF document",
}

# Encodings whose guess is trusted where most bytes are theirs. East Asian text is nearly all non-ASCII, Cyrillic and
# Greek mostly so; a few stray high bytes in Latin text look like any of them.
_NON_LATIN = {"cp932", "gb18030", "big5", "cp949", "euc_jp", "cp1251", "koi8_r", "cp1253"}
_CANDIDATES = ["cp1252", "cp1250", *sorted(_NON_LATIN)]
_NON_LATIN_SHARE = 0.3
DEFAULT_ENCODING = "cp1252"


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


def detect_format(
    path: Path,
    encoding: str | None = None,
    delimiter: str | None = None,
    skip_lines: int = 0,
    comment: str | None = None,
) -> CsvFormat:
    """The format of a file; what is given is taken as it is. Reads a sample (blocks). Raises OSError, NotCsv."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    for magic, what in _NOT_CSV.items():
        if sample.startswith(magic):
            raise NotCsv(f"this is no CSV but {what}")
    encoding = detect_encoding(sample) if encoding is None else _without_bom(encoding, sample)
    lines = _first_lines(sample, encoding, skip_lines)
    if not skip_lines and lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
        return CsvFormat(encoding, delimiter or separator[1], 1)
    if delimiter is None:
        delimiter = _delimiter_of([line for line in lines if comment is None or not line.startswith(comment)])
    return CsvFormat(encoding, delimiter, skip_lines)


def find_columns(path: Path, found: CsvFormat, columns: Collection[str]) -> CsvFormat | None:
    """The format with which the first line that has all these columns would be the header. Blocking; raises OSError."""
    with path.open("rb") as file:
        lines = _first_lines(file.read(SAMPLE_BYTES), found.encoding)
    for delimiter in (found.delimiter, *DELIMITERS):
        for number, line in enumerate(lines):
            row = next(csv.reader([line], delimiter=delimiter), [])
            if set(columns) <= {plain_name(cell.strip()) for cell in row}:
                return CsvFormat(found.encoding, delimiter, number)
    return None


def detect_encoding(sample: bytes) -> str:
    """The encoding by its byte order mark, else UTF-8 where most non-ASCII lines are valid UTF-8, else a guess.

    The guess falls back to cp1252, the most common one by far: short Latin text fits many encodings equally well.
    """
    for bom, name in _BOMS:
        if sample.startswith(bom):
            return name
    if wide := _wide(sample):
        return wide
    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    if len(sample) == SAMPLE_BYTES and lines and not sample.endswith(b"\n"):
        lines.pop()  # cut by the end of the sample, maybe within a character
    valid = sum(1 for line in lines if _is_utf8(line))
    # Text in another encoding is hardly ever valid UTF-8 by accident: a few bad lines in a UTF-8 file are just that.
    return "utf-8" if valid * 2 >= len(lines) else _guess(b"\n".join(lines)[:GUESS_BYTES])


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


def _wide(sample: bytes) -> str | None:
    """UTF-16 without a byte order mark: text in it has a NUL in every other byte, mostly."""
    head = sample[:4096]
    if len(head) < 4:
        return None
    even, odd = head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guess(lines: bytes) -> str:
    share = sum(byte > 0x7F for byte in lines) / len(lines)
    matches = list(from_bytes(lines, cp_isolation=_CANDIDATES))
    if not matches:
        return DEFAULT_ENCODING
    best = matches[0]
    if best.encoding in _NON_LATIN and share >= _NON_LATIN_SHARE:
        return best.encoding
    western = next((m for m in matches if m.encoding == DEFAULT_ENCODING), None)
    as_good = western is not None and (western.chaos, western.coherence) == (best.chaos, best.coherence)
    if best.encoding == "cp1250" and best.coherence > 0 and not as_good:
        return best.encoding
    return DEFAULT_ENCODING


def _without_bom(encoding: str, sample: bytes) -> str:
    """The codec that writes no byte order mark; a mark at the start is dropped on reading."""
    name = codecs.lookup(encoding).name
    if name in {"utf-16", "utf-32"}:
        return next((found for bom, found in _BOMS if sample.startswith(bom)), f"{name}-le")
    return "utf-8" if name == "utf-8-sig" else name
