"""Reads, cleans, writes and uploads a sales file without the pipeline: `python -m data.etl [FILE]`.

The rules are those of the dataset `orders`; the reader, the normalizer and the file formats are the pipeline's own. All
rows are held in memory; with the pipeline, Postgres holds them: `headrace export orders`.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from data.generate import RAW_FILE
from exports.destinations import ExportError, destination_at
from exports.export import DEFAULT_STEM, Report
from exports.files import arrow_schema, export_files, formats_named, table_of_records
from producers.csv.source import CsvBlock, CsvSource
from producers.source import SourceFailed
from runtime.errors import SettingsError
from runtime.logging import configure_logging
from runtime.settings import load_settings
from schemas.dataset import Dataset
from schemas.events import HEADER_MAPPING, HEADER_PROBLEM, CleanRecord
from schemas.field_reading import encode_mapping
from schemas.registry import dataset_named
from services.renormalizing import RawRecord, normalize
from stream_processors.normalize import Rejected

NOWHERE = ("", 0, 0, 0)
"""Coordinates of a row that has been in no topic."""

_decode_clean = msgspec.json.Decoder(CleanRecord).decode
_decode_data = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass
class Cleaned:
    """The records of a file by key, its number of rows, and by reason the number of those that are no records."""

    initial_rows: int = 0
    records: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)


def clean_file(path: Path, dataset: Dataset) -> Cleaned:
    """Read a CSV file and apply the dataset's rules row by row. Blocking. Raises SourceFailed."""
    block = CsvBlock(kind="csv", path=str(path), dataset=dataset.name)
    source = CsvSource(block.describe(path.stem), block, path)
    cleaned = Cleaned()
    for batch in source.read():
        cleaned.initial_rows += batch.blank
        mapping = ((HEADER_MAPPING, encode_mapping(batch.readings or {})),)
        for record in batch.records:
            cleaned.initial_rows += 1
            problem = ((HEADER_PROBLEM, record.problem.encode("utf-8", "replace")),) if record.problem else mapping
            outcome = normalize(dataset, RawRecord(*NOWHERE, None, record.value, problem), now_ms=0)
            if isinstance(outcome, Rejected):
                cleaned.failed[outcome.reason] += 1
            elif not dataset.first_wins or outcome.key not in cleaned.records:
                cleaned.records[outcome.key] = _decode_data(_decode_clean(outcome.value).data)
    return cleaned


def etl(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The CSV file.", show_default=False)] = RAW_FILE,
    bucket: Annotated[str | None, typer.Option(metavar="NAME", help="By default OBJECT_STORE_BUCKET.")] = None,
    to: Annotated[str | None, typer.Option(metavar="DIR|URL", help="Another destination than a bucket.")] = None,
    formats: Annotated[str, typer.Option("--format", metavar="csv,parquet")] = "csv,parquet",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Clean a file of sales and upload the result. On any error nothing is uploaded.

    Example: python -m data.etl data/raw.csv --bucket test-bucket
    """
    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "WARNING"}), "etl")
    orders = dataset_named("orders")
    report = Report(None if as_json else typer.echo)
    try:
        wanted = formats_named(formats)
        destination = destination_at(to or f"s3://{bucket or settings.object_store_bucket}", settings)
        cleaned = clean_file(file, orders)
        if destination.remark:
            typer.echo(destination.remark, err=True)
        destination.check()
        schema = arrow_schema(orders)
        table = table_of_records(schema, list(cleaned.records.values())).sort_by(
            [(name, "ascending") for name in orders.key]
        )
        with export_files(destination, DEFAULT_STEM, wanted, schema) as files:
            for batch in table.to_batches():
                files.write(batch)
            report.deliver(files, cleaned.initial_rows)
    except (SourceFailed, ExportError) as error:
        reason = f"{error.reason}; nothing was uploaded" if isinstance(error, SourceFailed) else error
        typer.echo(f"Error: {reason}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(msgspec.json.encode(report.as_json(destination) | {"failed": dict(cleaned.failed)}).decode())


def main() -> None:
    """Run the command. Wrong settings are told in a line each; exit code 2."""
    try:
        typer.run(etl)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
