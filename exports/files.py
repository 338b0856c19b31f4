"""The files of one export, typed: written aside, all of them to their end, before the first one is delivered.

Decimals stay exact, dates are dates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from exports.destinations import Destination, ExportError
from exports.spreadsheets import harmless
from schemas.dataset import Dataset

USUAL = (16, 4)
"""Digits before and after the point that a decimal without bounds has room for at least: files of small numbers fit
together.
"""

_MOST_OF_128_BITS = 38


class FileWriter(Protocol):
    """A file that is being written. It can be read only after `close`."""

    def write_batch(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class SpreadsheetWriter:
    """CSV that a spreadsheet may open, whatever people have written into the texts."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = csv_writer(path, schema)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(harmless(batch))

    def close(self) -> None:
        self._writer.close()


def csv_writer(path: Path, schema: pa.Schema) -> FileWriter:
    """RFC 4180 in UTF-8 with a header; text is quoted, so that an empty text differs from no value."""
    writer: FileWriter = arrow_csv.CSVWriter(path, schema, write_options=arrow_csv.WriteOptions(quoting_header="none"))
    return writer


def parquet_writer(path: Path, schema: pa.Schema) -> FileWriter:
    """Parquet, zstd, a row group per batch."""
    writer: FileWriter = parquet.ParquetWriter(path, schema, compression="zstd", store_decimal_as_integer=True)
    return writer


FORMATS: Mapping[str, Callable[[Path, pa.Schema], FileWriter]] = {
    "csv": SpreadsheetWriter,
    "csv-as-stored": csv_writer,
    "parquet": parquet_writer,
}
"""Openers of new files, by the name of the format, whose first word is the file's ending."""


def formats_named(names: str) -> list[str]:
    """The formats of a list such as `csv,parquet`. Raises ExportError for another name, or for none."""
    chosen = list(dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown or not chosen:
        raise ExportError(f"there is no format {(unknown or [names])[0]!r}; known are {', '.join(FORMATS)}")
    if len({_ending(name) for name in chosen}) < len(chosen):
        raise ExportError(f"{names}: both would be the same file; choose one, or export twice with another --name")
    return chosen


def _ending(name: str) -> str:
    return name.partition("-")[0]


@dataclass(frozen=True)
class Delivered:
    """A file that is at its destination, whole. `line` tells so in one sentence."""

    name: str
    address: str
    bytes: int
    line: str


class ExportFiles:
    """Files that are being written; make one with `export_files`."""

    def __init__(self, destination: Destination, writers: dict[Path, FileWriter]) -> None:
        self._destination = destination
        self._writers = writers
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch to every file. Blocking. Raises ExportError, as on a full disk."""
        for path, writer in self._writers.items():
            try:
                writer.write_batch(batch)
            except OSError as error:
                raise ExportError(f"{path} cannot be written: {error}") from error
        self.rows += batch.num_rows

    def deliver(self) -> Iterator[Delivered]:
        """Finish all files, then deliver them one by one. Blocking. Raises ExportError."""
        for writer in self._writers.values():
            writer.close()
        for path in self._writers:
            size = path.stat().st_size
            address = self._destination.deliver(path)
            line = f"File {path.name} successfully {self._destination.verb} {address}"
            yield Delivered(path.name, address, size, line)


@contextmanager
def export_files(
    destination: Destination, stem: str, formats: Sequence[str], schema: pa.Schema
) -> Iterator[ExportFiles]:
    """Files `<stem>.<format>` to write. What is not delivered when the block ends, however it ends, is gone."""
    with destination.workspace() as folder, ExitStack() as stack:
        writers = {}
        for name in formats:
            path = folder / f"{stem}.{_ending(name)}"
            writers[path] = FORMATS[name](path, schema)
            stack.callback(writers[path].close)
        yield ExportFiles(destination, writers)


def arrow_schema(dataset: Dataset, widths: Mapping[str, tuple[int, int]] | None = None) -> pa.Schema:
    """The dataset's fields in their order.

    `widths`: of a decimal without bounds, how many digits its values have before and after the point at most.
    """
    widths = widths or {}
    return pa.schema(
        pa.field(f.name, f.type.arrow_type() or _decimal(widths.get(f.name, USUAL)), nullable=not f.required)
        for f in dataset.fields
    )


def batch_of_rows(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of Python values in the order of the schema, at least one, as one batch."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def table_of_records(schema: pa.Schema, records: Sequence[dict[str, Any]]) -> pa.Table:
    """Records in their JSON normal form (decimals and dates are text) as one table."""
    arrays = []
    for field in schema:
        values = [record[field.name] for record in records]
        arrays.append(
            pa.array(values, type=field.type)
            if pa.types.is_integer(field.type)
            else pa.array(values, type=pa.string()).cast(field.type)
        )
    return pa.Table.from_arrays(arrays, schema=schema)


def _decimal(width: tuple[int, int]) -> pa.DataType:
    before, after = map(max, zip(width, USUAL, strict=True))
    decimal = pa.decimal128 if before + after <= _MOST_OF_128_BITS else pa.decimal256
    return decimal(before + after, after)
