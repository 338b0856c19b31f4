"""The kind `csv`: a file of any encoding and delimiter, row by row, in constant memory.

A row becomes the JSON object {column: text}. A row that cannot be read is published as its bytes, with the reason.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
import structlog
from pydantic import BeforeValidator, Field, field_validator

from producers.background_reader import read_in_background
from producers.csv_format import CsvFormat, NotCsv, detect_format
from producers.csv_resume import FilePosition, FileProgress, HashedFile
from producers.csv_rows import BadRow, CsvRows
from producers.downloaded_source import DownloadedSource, is_address
from producers.http_block import FetchBlock
from producers.record_key import RecordKey
from producers.source import Source, SourceBatch, SourceDescription, SourceFailed, SourceRecord
from producers.text_encoding import EXPECTED, is_text_encoding
from runtime.checkpoints import Position
from runtime.settings import Settings
from schemas.field_reading import DecimalMark
from schemas.fields import FieldType, FromSource, Number

log = structlog.get_logger()

BATCH_ROWS = 2000
BATCH_BYTES = 1_048_576
READ_BYTES = 262_144


def _tab(value: object) -> object:
    return "\t" if value in {"tab", "\\t"} else value


class CsvBlock(FetchBlock):
    """A block of kind `csv`; what it says about fetching is for a file at an address."""

    kind: Literal["csv"]
    path: Annotated[str, Field(min_length=1)]
    """A file, or its http(s) address."""
    encoding: str | None = None
    """Found out if not given: byte order mark, UTF-8, else guessed."""
    delimiter: Annotated[str | None, BeforeValidator(_tab)] = None
    """One character, or `tab`; found out among `,` `;` tab `|` if not given."""
    decimal: DecimalMark = "."
    """The decimal mark of its numbers: 1.234,56 is written with a comma."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 512 * 1_048_576

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and not is_text_encoding(value):
            raise ValueError(EXPECTED)
        return value

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError('expected one character such as , ; | or the word tab, and no quote (")')
        return value

    def _decimal_of(self, field_type: FieldType) -> DecimalMark | None:
        return "," if self.decimal == "," and isinstance(field_type, Number) else None

    def build(self, name: str, settings: Settings, folder: Path) -> Source:  # noqa: ARG002 (files need no settings)
        def at(path: Path) -> CsvSource:
            return CsvSource(self.describe(name), path, self.encoding, self.delimiter)

        if is_address(self.path):
            scope = f"{self.path} {self.encoding} {self.delimiter}"
            return DownloadedSource(self.path, at, scope, self)
        return at(folder / self.path)


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

    @property
    def content_type(self) -> str:
        return "application/json"

    @property
    def scope(self) -> str:
        return f"{self.path.absolute()} {self.encoding} {self.delimiter}"

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
            found = self._format()
            size = self.path.stat().st_size
            with self.path.open("rb", buffering=READ_BYTES) as file, closing(_rows(file, found)) as rows:
                each = iter(rows)
                columns = self._header(each, rows)
                batch = None
                for batch in self._records(each, rows, columns):
                    yield SourceBatch(batch, min(1.0, file.tell() / size))
                self._tell_no_rows(columns, batch)

    def read_on(self, since: Position | None) -> Iterator[SourceBatch]:
        """The batches after a position, blocking. Raises SourceFailed."""
        known = FilePosition.of(since.at) if since and since.at else None
        with self._errors_explained(), HashedFile(self.path) as file:
            if known and file.is_as_at(known):
                log.info("csv_unchanged", source=self.description.name)
                if file.stat != known.stat:
                    yield SourceBatch([], 1.0, msgspec.structs.replace(known, stat=file.stat).saved())
                return
            goes_on = known is not None and file.goes_on_from(known)
            before = None if goes_on or known is None else Position({})
            found = CsvFormat(known.encoding, known.delimiter) if known and goes_on else self._format()
            log.info(
                "csv_read",
                source=self.description.name,
                from_byte=known.offset if known and goes_on else 0,
                replaced=before is not None,
            )
            file.seek(0)
            with closing(_rows(file, found)) as rows:
                file.tracked = not goes_on
                each = iter(rows)
                columns = self._header(each, rows)
                header_ended = bool(columns) and rows.place() is not None
                progress = FileProgress(file, FilePosition(encoding=found.encoding, delimiter=found.delimiter))
                if known and goes_on:
                    rows.go_on(known.place)
                    progress.position = msgspec.structs.replace(known, end=None, end_digest="", stat=None)
                file.tracked = True
                batch = None
                for batch in self._records(each, rows, columns):
                    done = min(1.0, file.tell() / file.size) if file.size else None
                    yield SourceBatch(batch, done, progress.after_batch(rows), before)
                    before = None
                if not goes_on:
                    self._tell_no_rows(columns, batch)
                end = progress.at_end(rows) if header_ended else progress.without_rows()
                yield SourceBatch([], 1.0, end, before)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except NotCsv as error:
            raise self._failed(str(error)) from error
        except OSError as error:
            raise self._failed(f"cannot be read: {error.strerror or error}") from error

    def _format(self) -> CsvFormat:
        found = detect_format(self.path, self.encoding, self.delimiter)
        log.info("csv_format", source=self.description.name, encoding=found.encoding, delimiter=found.delimiter)
        return found

    def _header(self, each: Iterator[list[str] | BadRow], rows: CsvRows) -> list[str]:
        """The columns; none if the file is empty."""
        header = next(each, None)
        if header is None:
            log.warning("csv_empty", source=self.description.name, path=str(self.path))
            return []
        if isinstance(header, BadRow):
            raise self._failed(f"its header cannot be read: {header.message}")
        columns = column_names(header)
        self._check_columns(columns, rows.encoding)
        rows.width = len(columns)
        return columns

    def _records(
        self, each: Iterator[list[str] | BadRow], rows: CsvRows, columns: list[str]
    ) -> Iterator[list[SourceRecord]]:
        key = RecordKey(self.description)
        positions = [columns.index(column) if column in columns else None for column in key.columns]
        encode = msgspec.json.Encoder().encode
        records: list[SourceRecord] = []
        held = 0
        for row in each:
            if isinstance(row, BadRow):
                record = SourceRecord(row.payload, None, f"{row.reason};{row.message}")
            else:
                try:
                    value = encode(dict(zip(columns, row, strict=True)))
                except UnicodeEncodeError:
                    record = _undecodable(rows)
                else:
                    record = SourceRecord(value, key.of([None if at is None else row[at] for at in positions]))
            records.append(record)
            held += len(record.value or b"")
            if len(records) >= BATCH_ROWS or held >= BATCH_BYTES:
                yield records
                records, held = [], 0
        if records:
            yield records

    def _tell_no_rows(self, columns: Sequence[str], last_batch: list[SourceRecord] | None) -> None:
        if columns and last_batch is None:
            log.warning("csv_header_only", source=self.description.name, path=str(self.path), columns=columns)

    def _check_columns(self, columns: Sequence[str], encoding: str) -> None:
        listed = ", ".join(columns)
        if not listed.isascii() and any(0xDC00 <= ord(character) <= 0xDFFF for character in listed):
            raise self._failed(f"its header is not valid {encoding}; set `encoding`")
        for field, column in self.description.mapping.items():
            if column not in columns:
                raise self._failed(f"it has no column {column!r} (mapped to {field}); its columns are: {listed}")
        given = {field.name for field in self.description.dataset.fields if isinstance(field.type, FromSource)}
        for field in self.description.dataset.key:
            if field not in given and self.description.mapping.get(field, field) not in columns:
                raise self._failed(
                    f"no column gives {field}, the key of {self.description.dataset.name}; "
                    f"map one of its columns to it: {listed}"
                )

    def _failed(self, reason: str) -> SourceFailed:
        return SourceFailed(self.description.name, f"{self.path}: {reason}")


def column_names(header: Sequence[str]) -> list[str]:
    """Names for all columns: trimmed; one without a name is `column_<number>`; a repeated one gets `_2`, `_3`, …"""
    names: dict[str, None] = {}
    repeats: dict[str, int] = {}
    for number, cell in enumerate(header, start=1):
        base = name = cell.strip() or f"column_{number}"
        while name in names:
            repeats[base] = repeats.get(base, 1) + 1
            name = f"{base}_{repeats[base]}"
        names[name] = None
    return list(names)


def _rows(file: BinaryIO, found: CsvFormat) -> CsvRows:
    return CsvRows(file, found.encoding, found.delimiter)


def _undecodable(rows: CsvRows) -> SourceRecord:
    message = f"line {rows.line_number()}: bytes that are not valid {rows.encoding}"
    return SourceRecord(rows.payload(), None, f"undecodable_row;{message}")
