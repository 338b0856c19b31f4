"""The formats of files: each a writer that takes batches one after the other and holds one at most."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from exports.errors import ExportError


class FileWriter(Protocol):
    """A file that is being written. It can be read only after `close`."""

    def write_batch(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class FileFormat(Protocol):
    """Opens a writer for a file that does not exist yet."""

    def __call__(self, path: Path, schema: pa.Schema) -> FileWriter: ...


def csv_writer(path: Path, schema: pa.Schema) -> FileWriter:
    """RFC 4180 in UTF-8 with a header; text is quoted, so that an empty text differs from no value."""
    writer: FileWriter = arrow_csv.CSVWriter(path, schema, write_options=arrow_csv.WriteOptions(quoting_header="none"))
    return writer


def parquet_writer(path: Path, schema: pa.Schema) -> FileWriter:
    """Parquet, zstd, a row group per batch."""
    writer: FileWriter = parquet.ParquetWriter(path, schema, compression="zstd", store_decimal_as_integer=True)
    return writer


FORMATS: Mapping[str, FileFormat] = {"csv": csv_writer, "parquet": parquet_writer}
"""Every format by its name, which is the file's ending too."""


def formats_named(names: str) -> list[str]:
    """The formats of a list such as `csv,parquet`. Raises ExportError for another name, or for none."""
    chosen = list(dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown or not chosen:
        raise ExportError(f"there is no format {(unknown or [names])[0]!r}; known are {', '.join(FORMATS)}")
    return chosen
