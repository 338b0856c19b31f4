"""The kind `csv`: a file of any encoding and delimiter, row by row, in constant memory.

A row becomes the JSON object {column: text}. A row that cannot be read is published as its bytes, with the reason.
"""

import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec.structs import replace

from producers.background_reader import read_in_background
from producers.csv.evidence import decimals_found, only_in_rows
from producers.csv.format import CsvFormat, NotCsv, detect_encoding, detect_format, find_columns
from producers.csv.resume import FilePosition, FileProgress, HashedFile
from producers.csv.rows import BadRow, CsvRows
from producers.record_key import RecordKey
from producers.source import ROW, SourceBatch, SourceDescription, SourceFailed, SourceRecord
from producers.text.found_encoding import TextEncoding, UnsureEncoding
from schemas.field_reading import FieldReading
from schemas.fields import FromSource
from schemas.members import plain_name
from stores.checkpoints import Position

log = structlog.get_logger()

BATCH_ROWS = 2000
BATCH_BYTES = 1_048_576
READ_BYTES = 262_144
_OTHER_LINE = ". If that line is no header, set `skip_lines`, `columns` or `delimiter`"
EVIDENCE_BYTES = 262_144
"""So much of a file is looked at for what its numbers are like."""


@dataclass(frozen=True)
class CsvSource:
    """A CSV file with a header; implements ResumableSource. An empty file, or one with a header only, has no records.

    Resuming reads what was appended since; a file of which the part that was read has changed is another one and is
    read whole, and one that has not changed at all not. A last row without its line end is read, and read again when
    something was appended to it.
    """

    description: SourceDescription
    path: Path
    encoding: str | None = None
    delimiter: str | None = None
    skip_lines: int = 0
    comment: str | None = None
    columns: tuple[str, ...] = ()
    escape: str | None = None
    charset: str | None = None
    """What the server that it came from calls its encoding."""
    address: str = ""
    """Where the file was fetched from; by default it is where it lies."""

    @property
    def identity(self) -> str:
        """The file in the keys of rows that are told by their place: its name, and a mark of its whole address."""
        address = self.address or str(self.path.absolute())
        return f"{PurePosixPath(urlsplit(address).path).name[:100]}~{sha256(address.encode()).hexdigest()[:8]}"

    @property
    def content_type(self) -> str:
        return "application/json"

    @property
    def scope(self) -> str:
        return f"{self.path.absolute()} {self.layout}"

    @property
    def layout(self) -> str:
        """The part of `scope` that is the same wherever the file is."""
        more = (self.skip_lines, self.comment, self.columns, self.escape)
        return f"{self.encoding} {self.delimiter}" + (f" {more}" if any(more) else "")

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """Batches of up to BATCH_ROWS rows, read by a thread. Implements Source.batches."""
        async for batch in read_in_background(self.read):
            yield batch

    async def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        """The same after a position. Implements ResumableSource.resume."""
        async for batch in read_in_background(lambda: self.read_on(since)):
            yield batch

    def read(self) -> Iterator[SourceBatch]:
        """All batches, blocking. Raises SourceFailed."""
        with self._errors_explained():
            encoding = self._encoding()
            found = self._format(encoding)
            size = self.path.stat().st_size
            with self.path.open("rb", buffering=READ_BYTES) as file, closing(self._rows(file, found)) as rows:
                each = iter(rows)
                columns = self._header(each, rows, found)
                about = self._about(found, encoding, columns)
                records = None
                for records, blank in self._records(each, rows, columns):
                    done = min(1.0, file.tell() / size)
                    yield SourceBatch(records, done, blank=blank, **about)
                self._tell_no_rows(columns, records)

    def read_on(self, since: Position | None) -> Iterator[SourceBatch]:
        """The batches after a position, blocking. Raises SourceFailed."""
        known = FilePosition.of(since.at) if since and since.at else None
        with self._errors_explained(), HashedFile(self.path) as file:
            if known and file.is_as_at(known):
                log.info("csv_unchanged", source=self.description.name)
                if file.stat != known.stat:
                    yield SourceBatch([], 1.0, replace(known, stat=file.stat).saved())
                return
            goes_on = known is not None and file.goes_on_from(known)
            before = None if goes_on or known is None else Position({})
            if known and goes_on:
                encoding = TextEncoding(known.encoding, "checkpoint")
                found = CsvFormat(known.encoding, known.delimiter, known.skip_lines)
            else:
                encoding = self._encoding()
                found = self._format(encoding)
            log.info(
                "csv_read",
                source=self.description.name,
                from_byte=known.offset if known and goes_on else 0,
                replaced=before is not None,
            )
            file.seek(0)
            with closing(self._rows(file, found)) as rows:
                file.tracked = not goes_on
                each = iter(rows)
                columns = self._header(each, rows, found)
                about = self._about(found, encoding, columns)
                header_ended = bool(columns) and rows.place() is not None
                progress = FileProgress(file, FilePosition(**found._asdict()))
                if known and goes_on:
                    rows.go_on(known.place)
                    progress.position = replace(known, end=None, end_digest="", stat=None)
                file.tracked = True
                records = None
                for records, blank in self._records(each, rows, columns):
                    done = min(1.0, file.tell() / file.size) if file.size else None
                    position = progress.after_batch(rows)
                    yield SourceBatch(records, done, position, before, blank=blank, **about)
                    before = None
                if not goes_on:
                    self._tell_no_rows(columns, records)
                end = progress.at_end(rows) if header_ended else progress.without_rows()
                yield SourceBatch([], 1.0, end, before)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except (NotCsv, UnsureEncoding) as error:
            raise self._failed(str(error)) from error
        except OSError as error:
            raise self._failed(f"cannot be read: {error.strerror or error}") from error

    def _encoding(self) -> TextEncoding:
        found = detect_encoding(self.path, self.encoding, self.charset)
        log.info("csv_encoding", source=self.description.name, encoding=found.name, by=found.by, sure=found.sure)
        return found

    def _format(self, encoding: TextEncoding) -> CsvFormat:
        found = detect_format(self.path, encoding.name, self.delimiter, self.skip_lines, self.comment)
        log.info("csv_format", source=self.description.name, encoding=found.encoding, delimiter=found.delimiter)
        return found

    def _rows(self, file: BinaryIO, found: CsvFormat) -> CsvRows:
        return CsvRows(file, found.encoding, found.delimiter, self.comment, self.escape)

    def _header(self, each: Iterator[list[str] | BadRow], rows: CsvRows, found: CsvFormat) -> list[str]:
        """The columns; none if the file is empty."""
        rows.skip_lines(found.skip_lines)
        header: Sequence[str] | BadRow | None = self.columns or next(each, None)
        if header is None:
            log.warning("csv_empty", source=self.description.name, path=str(self.path))
            return []
        if isinstance(header, BadRow):
            raise self._failed(f"its header cannot be read: {header.message}{_OTHER_LINE}")
        columns = column_names(header)
        self._check_columns(columns, found)
        rows.width, rows.blank = len(columns), 0
        rows.unnamed = len(header) - max((number for number, cell in enumerate(header, 1) if cell.strip()), default=0)
        return columns

    def _readings(self, found: CsvFormat, columns: Sequence[str]) -> Mapping[str, FieldReading] | None:
        """How to read the records, with the decimal marks that the file shows. Reads its beginning again (blocks)."""
        readings = self.description.field_readings()
        places = {
            name: columns.index(column)
            for name, reading in readings.items()
            if reading.decimal == "unsure" and (column := reading.column or name) in columns
        }
        with self.path.open("rb") as file:
            head = file.read(EVIDENCE_BYTES)
        rows = self._rows(io.BytesIO(head), found)
        rows.skip_lines(found.skip_lines)
        sample = [row for row in rows if not isinstance(row, BadRow)][0 if self.columns else 1 :]
        if len(head) == EVIDENCE_BYTES:
            sample = sample[:-1]  # it may be cut
        if only_in_rows(sample, len(columns)):
            names = msgspec.json.encode(["row", *columns]).decode()
            raise self._failed(
                "every row has one cell more than the header: the delimiter stands unquoted in a value, or the first "
                f"cell is a row's name, as R writes it; then set columns = {names} and "
                f"skip_lines = {found.skip_lines + 1}"
            )
        marks = decimals_found(sample, places, sure_of_point=found.delimiter != ";")
        return readings | {name: replace(readings[name], decimal=mark) for name, mark in marks.items()}

    def _records(
        self, each: Iterator[list[str] | BadRow], rows: CsvRows, columns: list[str]
    ) -> Iterator[tuple[list[SourceRecord], int]]:
        """Batches of records, and how many blank rows were before the last of them."""
        key = RecordKey(self.description)
        numbered = ROW in key.columns and ROW not in columns
        columns = [*columns, ROW] if numbered else columns
        positions = [columns.index(column) if column in columns else None for column in key.columns]
        encode = msgspec.json.Encoder().encode
        records: list[SourceRecord] = []
        held = 0
        for row in each:
            if isinstance(row, BadRow):
                record = SourceRecord(row.payload, None, f"{row.reason};{row.message}")
            else:
                if numbered:
                    row = [*row, f"{self.identity}:{rows.line_number()}"]
                try:
                    value = encode(dict(zip(columns, row, strict=True)))
                except UnicodeEncodeError:
                    record = _undecodable(rows)
                else:
                    record = SourceRecord(value, key.of([None if at is None else row[at] for at in positions]))
            records.append(record)
            held += len(record.value or b"")
            if len(records) >= BATCH_ROWS or held >= BATCH_BYTES:
                yield records, rows.blank
                records, held, rows.blank = [], 0, 0
        if records or rows.blank:
            yield records, rows.blank

    def _tell_no_rows(self, columns: Sequence[str], last_batch: list[SourceRecord] | None) -> None:
        if columns and last_batch is None:
            log.warning("csv_header_only", source=self.description.name, path=str(self.path), columns=columns)

    def _check_columns(self, columns: Sequence[str], found: CsvFormat) -> None:
        listed = ", ".join(columns)
        if not listed.isascii() and any(0xDC00 <= ord(character) <= 0xDFFF for character in listed):
            raise self._failed(f"its header is not valid {found.encoding}; set `encoding`")
        for field, column in self.description.mapping.items():
            if column not in columns and column != ROW:
                raise self._failed(
                    f"it has no column {column!r} (mapped to {field}); its columns are: {listed}{self._way_out(found)}"
                )
        given = self._given()
        for field in self.description.dataset.key:
            of = self.description.columns_of(field)
            if field not in given and (missing := [one for one in of if one != ROW and one not in columns]):
                key = f"the key of {self.description.dataset.name}"
                part = f"it has no column {missing[0]!r}, part of {key}"
                why = part if len(of) > 1 else f"no column gives {field}, {key}"
                raise self._failed(
                    f"{why}; its columns: {listed}. `key` (--key) names one, several, or {ROW}{self._way_out(found)}"
                )

    def _about(self, found: CsvFormat, encoding: TextEncoding, columns: Sequence[str]) -> dict[str, Any]:
        """Of every batch: how its records are to be read, its encoding, and which columns give no field."""
        read = {one for field in self.description.dataset.fields for one in self.description.columns_of(field.name)}
        left_out = tuple(column for column in columns if column not in read)
        return {"readings": self._readings(found, columns), "encoding": encoding, "left_out": left_out}

    def _given(self) -> set[str]:
        return {field.name for field in self.description.dataset.fields if isinstance(field.type, FromSource)}

    def _way_out(self, found: CsvFormat) -> str:
        """The settings with which the columns that are looked for are there, if there are such."""
        keys = set(self.description.dataset.key) - self._given()
        of_keys = (column for field in keys for column in self.description.columns_of(field))
        wanted = {*self.description.mapping.values(), *of_keys} - {ROW}
        better = find_columns(self.path, found, wanted)
        if better is None:
            return _OTHER_LINE
        settings = [f"{name} = {value!r}" for name, value in better._asdict().items() if value != getattr(found, name)]
        return f". Line {better.skip_lines + 1} has what is mapped: set {' and '.join(settings)}"

    def _failed(self, reason: str) -> SourceFailed:
        return SourceFailed(self.description.name, f"{self.path}: {reason}")


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


def _undecodable(rows: CsvRows) -> SourceRecord:
    message = f"line {rows.line_number()}: bytes that are not valid {rows.encoding}"
    way_out = "set `encoding` if the file is in another one"
    return SourceRecord(rows.payload(), None, f"undecodable_row;{message}; {way_out}")
