"""The kind `csv`: a file of any encoding and delimiter, row by row, in constant memory.

A row becomes the JSON object {column: text}. A row that cannot be read is published as its bytes, with the reason.
"""

import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec.structs import replace
from pydantic import BeforeValidator, Field, field_validator, model_validator

from producers.background_reader import read_in_background
from producers.block import FetchBlock
from producers.csv.format import DELIMITERS, NotCsv
from producers.csv.resume import READ_BYTES, FilePosition, HashedFile
from producers.csv.rows import BadRow, CsvRows
from producers.csv.table import CsvTable
from producers.http.fetch import open_fetcher
from producers.record_key import RecordKey
from producers.source import ROW, Source, SourceBatch, SourceDescription, SourceFailed, SourceRecord
from producers.text.found_encoding import CHARSET, EXPECTED, UnsureEncoding, is_text_encoding
from runtime.egress import Egress, checked_address
from runtime.settings import Settings
from schemas.field_reading import DecimalMark
from schemas.fields import Decimals, FieldType, Number, WholeNumber
from stores.checkpoints import Position

log = structlog.get_logger()

BATCH_ROWS = 2000
BATCH_BYTES = 1_048_576

_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_address(path: str) -> bool:
    """True for an http(s) address, False for a path. Pure."""
    return path.lower().startswith(("http://", "https://"))


def _tab(value: object) -> object:
    return "\t" if value in {"tab", "\\t"} else value


class CsvBlock(FetchBlock):
    """A block of kind `csv`; what it says about fetching is for a file at an address."""

    kind: Literal["csv"]
    has_lines = True
    path: Annotated[str, Field(min_length=1)]
    """A file, or its http(s) address."""
    encoding: str | None = None
    """Found out if not given: byte order mark, charset of the answer over HTTP, UTF-8, else guessed if that is sure."""
    delimiter: Annotated[str | None, BeforeValidator(_tab)] = None
    """One character, or `tab`; found out among `,` `;` tab `|` if not given."""
    decimal: DecimalMark | None = None
    """The decimal mark of its numbers, found out if not given: 1.234,56 is written with a comma."""
    skip_lines: Annotated[int, Field(ge=0)] = 0
    """Lines before the header that are not read: titles, dates of reports."""
    comment: Annotated[str | None, Field(min_length=1)] = None
    """Lines that begin with it are not read."""
    columns: tuple[str, ...] = ()
    """Names of all columns, where no line of the file is a header."""
    escape: Annotated[str | None, Field(min_length=1, max_length=1)] = None
    """The character before a quote or a delimiter that is part of a value, where quotes are not doubled."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 512 * 1_048_576

    @field_validator("path")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        if is_address(value):
            return checked_address(value)
        if scheme := _OTHER_SCHEME.match(value):
            raise ValueError(f"{scheme[0]} is not read here; expected a path, or an address like https://host/path")
        return value

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

    @model_validator(mode="after")
    def _escape_is_nothing_else(self) -> "CsvBlock":
        escape = self.escape
        if escape is not None and (escape.isspace() or escape in {'"', *DELIMITERS, self.delimiter}):
            raise ValueError(
                f"escape = {escape!r}: expected a character that is no quote, blank or delimiter, such as \\; where "
                'quotes are doubled (""), leave it out'
            )
        return self

    def _decimal_of(self, field_type: FieldType) -> Decimals | None:
        if not isinstance(field_type, Number | WholeNumber) or self.decimal == ".":
            return None
        return self.decimal or "unsure"

    @property
    def layout(self) -> str:
        """The part of a source's scope that is the same wherever the file is."""
        more = (self.skip_lines, self.comment, self.columns, self.escape)
        return f"{self.encoding} {self.delimiter}" + (f" {more}" if any(more) else "")

    def build(self, name: str, settings: Settings, folder: Path) -> Source:
        description = self.describe(name)
        if is_address(self.path):
            return DownloadedCsv(description, self, Egress.of(settings))
        return CsvSource(description, self, folder / self.path)


@dataclass(frozen=True)
class CsvSource:
    """A CSV file with a header; implements ResumableSource. An empty file, or one with a header only, has no records.

    Resuming reads what was appended since; a file of which the part that was read has changed is another one and is
    read whole, and one that has not changed at all not. A last row without its line end is read, and read again when
    something was appended to it.
    """

    description: SourceDescription
    block: CsvBlock
    path: Path
    charset: str | None = None
    """The encoding that the server gave from which it was fetched."""
    address: str = ""
    """The address that the file was fetched from; by default its path."""

    @property
    def identity(self) -> str:
        """The file in the keys of rows that are told by their place: its name, and a mark of its whole address."""
        address = self.address or str(self.path.absolute())
        return f"{PurePosixPath(urlsplit(address).path).name[:100]}~{sha256(address.encode()).hexdigest()[:8]}"

    @property
    def scope(self) -> str:
        return f"{self.path.absolute()} {self.block.layout}"

    def batches(self) -> AsyncIterator[SourceBatch]:
        return read_in_background(self.read)

    def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        return read_in_background(lambda: self.read_on(since))

    def read(self) -> Iterator[SourceBatch]:
        """All batches, blocking. Raises SourceFailed."""
        with self._errors_explained(), self.path.open("rb", buffering=READ_BYTES) as file:
            size = self.path.stat().st_size
            table = CsvTable(self, file)  # lives as long as the file: its text wrapper closes it
            for batch in self._batches(table):
                yield batch._replace(done=min(1.0, file.tell() / size))

    def read_on(self, since: Position | None) -> Iterator[SourceBatch]:
        """The batches after a position, blocking. Raises SourceFailed."""
        known = msgspec.convert(since.at, FilePosition) if since and since.at else None
        with self._errors_explained(), HashedFile(self.path) as file:
            if known and file.is_as_at(known):
                log.info("csv_unchanged", source=self.description.name)
                if file.stat != known.stat:
                    yield SourceBatch([], 1.0, replace(known, stat=file.stat).saved())
                return
            before = None
            if known and not file.goes_on_from(known):
                before, known = Position({}), None
            offset = known.offset if known else 0
            log.info("csv_read", source=self.description.name, from_byte=offset, replaced=before is not None)
            file.tracked = not known
            table = CsvTable(self, file, known.format if known else None)
            header_ended = bool(table.columns) and table.rows.place() is not None
            if known:
                table.rows.go_on(known.place)
                file.position = replace(known, end=None, end_digest="", stat=None)
            else:
                file.position = FilePosition(**table.format._asdict())
            file.tracked = True
            for batch in self._batches(table, appended=known is not None):
                done = min(1.0, file.tell() / file.size) if file.size else None
                yield batch._replace(done=done, position=file.after(table.rows), before=before)
                before = None
            yield SourceBatch([], 1.0, file.at_end(table.rows if header_ended else None), before)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except (NotCsv, UnsureEncoding) as error:
            raise self.failed(str(error)) from error
        except OSError as error:
            raise self.failed(f"cannot be read: {error.strerror or error}") from error

    def _batches(self, table: CsvTable, *, appended: bool = False) -> Iterator[SourceBatch]:
        about = SourceBatch([], None, readings=table.readings, encoding=table.encoding, left_out=table.left_out)
        key, rows, columns = RecordKey(self.description), table.rows, table.columns
        numbered = ROW in key.columns and ROW not in columns
        columns = [*columns, ROW] if numbered else columns
        positions = [columns.index(column) if column in columns else None for column in key.columns]
        encode, as_object = msgspec.json.Encoder().encode, _objects_of(columns)
        records: list[SourceRecord] = []
        held, empty = 0, not appended
        for row in table.each_row:
            if isinstance(row, BadRow):
                record = SourceRecord(row.payload, None, f"{row.reason};{row.message}")
            else:
                if numbered:
                    row = [*row, f"{self.identity}:{rows.line_number()}"]
                try:
                    value = encode(as_object(*row))
                except UnicodeEncodeError:
                    record = _undecodable(rows)
                else:
                    record = SourceRecord(value, key.of([None if at is None else row[at] for at in positions]))
            records.append(record)
            held += len(record.value or b"")
            if len(records) >= BATCH_ROWS or held >= BATCH_BYTES:
                yield about._replace(records=records, blank=rows.blank)
                records, held, rows.blank, empty = [], 0, 0, False
        if records or rows.blank:
            yield about._replace(records=records, blank=rows.blank)
        elif empty and table.columns:
            log.warning("csv_header_only", source=self.description.name, path=str(self.path), columns=table.columns)

    def failed(self, reason: str) -> SourceFailed:
        return SourceFailed(self.description.name, f"{self.path}: {reason}")


def _objects_of(columns: Sequence[str]) -> Callable[..., object]:
    """A function that makes a JSON object of one value for each column. Too few or too many are an error."""
    names = {f"c{number}": column for number, column in enumerate(columns)}
    try:
        # A third of the time of a dictionary, but not for names that need escapes.
        return msgspec.defstruct("Row", [(name, str) for name in names], rename=names, gc=False)
    except ValueError:
        return lambda *row: dict(zip(columns, row, strict=True))


def _undecodable(rows: CsvRows) -> SourceRecord:
    message = f"line {rows.line_number()}: bytes that are not valid {rows.encoding}"
    way_out = "set `encoding` if the file is in another one"
    return SourceRecord(rows.payload(), None, f"undecodable_row;{message}; {way_out}")


@dataclass(frozen=True)
class DownloadedCsv:
    """A CSV file at an http(s) address; implements ResumableSource.

    The whole file is fetched before its first record is read, so a connection that breaks half-way publishes nothing.
    Redirects are followed: no key is sent along.
    """

    description: SourceDescription
    block: CsvBlock
    egress: Egress

    @property
    def scope(self) -> str:
        return f"{self.block.path} {self.block.layout}"

    def batches(self) -> AsyncIterator[SourceBatch]:
        return self._read(CsvSource.batches)

    def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        return self._read(lambda file: file.resume(since))

    async def _read(self, begin: Callable[[CsvSource], AsyncIterator[SourceBatch]]) -> AsyncIterator[SourceBatch]:
        url = self.block.path
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            path = Path(folder, "download")
            async with open_fetcher(self.description.name, url, self.block, self.egress, "*/*") as fetcher:
                answer = await fetcher.get(url, into=path)
            log.info("source_downloaded", source=self.description.name, url=url)
            charset = CHARSET.search(answer.headers.get("content-type", ""))
            file = CsvSource(self.description, self.block, path, charset and charset[1], url)
            try:
                async with aclosing(begin(file)) as batches:  # type: ignore[type-var]
                    async for batch in batches:
                        yield batch
            except SourceFailed as failure:
                raise SourceFailed(failure.source, failure.reason.replace(str(path), url)) from failure
