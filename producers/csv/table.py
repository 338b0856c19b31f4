"""A CSV file that is being read: its beginning is looked at once, for its format, its header and its numbers."""

import io
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import structlog
from msgspec.structs import replace

from producers.csv.format import (
    CsvFormat,
    column_names,
    decimals_found,
    detect_encoding,
    detect_format,
    find_columns,
    only_in_rows,
)
from producers.csv.rows import BadRow, CsvRows
from producers.source import ROW
from producers.text.found_encoding import SAMPLE_BYTES, TextEncoding
from schemas.field_reading import FieldReading

if TYPE_CHECKING:
    from producers.csv.source import CsvSource

log = structlog.get_logger()

EVIDENCE_BYTES = 262_144
"""So much of a file is looked at for what its numbers are like."""

LONGEST_NAME = 2000
"""Characters of a column's name, which every record repeats."""

MOST_LACKING = 100
"""Columns without a name that a row may lack: they are in its record all the same."""

LONGEST_LIST = 2000
"""Characters of a header in a message."""

_OTHER_LINE = ". If that line is no header, set `skip_lines`, `columns` or `delimiter`"


class CsvTable:
    """The `columns` of an open file, none if it is empty, and the `rows` that follow. Blocking.

    `known` is the format that an earlier run has found. `readings` says how the records are to be read.
    Raises SourceFailed, NotCsv, UnsureEncoding.
    """

    def __init__(self, source: "CsvSource", file: BinaryIO, known: CsvFormat | None = None) -> None:
        self._source, self._description, self._block = source, source.description, source.block
        file.seek(0)
        self._sample = file.read(SAMPLE_BYTES)
        file.seek(0)
        if known:
            self.encoding, self.format = TextEncoding(known.encoding, "checkpoint"), known
        else:
            self._detect()
        self.rows = self._rows(file)
        self.each_row = iter(self.rows)
        self.columns = self._header()
        self.readings = self._readings()

    def _detect(self) -> None:
        name, block = self._description.name, self._block
        self.encoding = detect_encoding(self._sample, block.encoding, self._source.charset)
        log.info("csv_encoding", source=name, encoding=self.encoding.name, by=self.encoding.by, sure=self.encoding.sure)
        self.format = detect_format(self._sample, self.encoding.name, block.delimiter, block.skip_lines, block.comment)
        log.info("csv_format", source=name, encoding=self.format.encoding, delimiter=self.format.delimiter)

    def _rows(self, file: BinaryIO) -> CsvRows:
        rows = CsvRows(file, self.format.encoding, self.format.delimiter, self._block.comment, self._block.escape)
        rows.skip_lines(self.format.skip_lines)
        return rows

    def _header(self) -> list[str]:
        header: Sequence[str] | BadRow | None = self._block.columns or next(self.each_row, None)
        if header is None:
            log.warning("csv_empty", source=self._description.name, path=str(self._source.path))
            return []
        if isinstance(header, BadRow):
            raise self._source.failed(f"its header cannot be read: {header.message}{_OTHER_LINE}")
        columns = column_names(header)
        if (long := max(columns, key=len)) and len(long) > LONGEST_NAME:
            what = f"column {columns.index(long) + 1} has a name of {len(long):,} characters: {long[:40]!r}…"
            raise self._source.failed(f"its header cannot be read: {what}; {LONGEST_NAME:,} are taken{_OTHER_LINE}")
        self._check(columns)
        named = max((number for number, cell in enumerate(header, 1) if cell.strip()), default=0)
        self.rows.width, self.rows.unnamed = len(header), min(len(header) - named, MOST_LACKING)
        self.rows.blank = 0
        self.rows.header = list(header) if len(header) > 1 else None  # of one column, a value may well be its name
        return columns

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that give no field."""
        description = self._description
        read = {one for field in description.dataset.fields for one in description.columns_of(field.name)}
        return tuple(column for column in self.columns if column not in read)

    def _readings(self) -> Mapping[str, FieldReading]:
        """The fields' readings, with the decimal marks that the first rows show."""
        readings, columns = self._description.field_readings(), self.columns
        places = {
            name: columns.index(column)
            for name, reading in readings.items()
            if reading.decimal == "unsure" and (column := reading.column or name) in columns
        }
        head = self._sample[:EVIDENCE_BYTES]
        rows = [row for row in self._rows(io.BytesIO(head)) if not isinstance(row, BadRow)]
        last = -1 if len(head) == EVIDENCE_BYTES else None  # it may be cut
        sample = rows[0 if self._block.columns else 1 : last]
        if only_in_rows(sample, len(columns)):
            names = msgspec.json.encode(["row", *columns]).decode()
            raise self._source.failed(
                "every row has one cell more than the header: the delimiter stands unquoted in a value, or the first "
                f"cell is a row's name, as R writes it; then set columns = {names} and "
                f"skip_lines = {self.format.skip_lines + 1}"
            )
        marks = decimals_found(sample, places, sure_of_point=self.format.delimiter != ";")
        return readings | {name: replace(readings[name], decimal=mark) for name, mark in marks.items()}

    def _check(self, columns: list[str]) -> None:
        listed = ", ".join(columns)
        if not listed.isascii() and any(0xDC00 <= ord(character) <= 0xDFFF for character in listed):
            raise self._source.failed(f"its header is not valid {self.format.encoding}; set `encoding`")
        if len(listed) > LONGEST_LIST:
            listed = f"{listed[:LONGEST_LIST]}… ({len(columns):,} in all)"
        for field, column in self._description.mapping.items():
            if column not in columns and column != ROW:
                raise self._source.failed(
                    f"it has no column {column!r} (mapped to {field}); its columns are: {listed}{self._way_out()}"
                )
        for field, of in self._description.columns_of_key().items():
            if missing := [one for one in of if one != ROW and one not in columns]:
                key = f"the key of {self._description.dataset.name}"
                part = f"it has no column {missing[0]!r}, part of {key}"
                why = part if len(of) > 1 else f"no column gives {field}, {key}"
                raise self._source.failed(
                    f"{why}; its columns: {listed}. `key` (--key) names one, several, or {ROW}{self._way_out()}"
                )

    def _way_out(self) -> str:
        """The settings with which the columns that are looked for are there, if there are such."""
        description = self._description
        wanted = {*description.mapping.values(), *chain(*description.columns_of_key().values())} - {ROW}
        better = find_columns(self._sample, self.format, wanted)
        if better is None:
            return _OTHER_LINE
        changes = [f"{n} = {v!r}" for n, v in better._asdict().items() if v != getattr(self.format, n)]
        return f". Line {better.skip_lines + 1} has what is mapped: set {' and '.join(changes)}"
