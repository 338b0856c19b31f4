"""`headrace export`: a dataset as files, in a folder or an object store."""

import asyncio
from typing import Annotated

import typer

from commands.output import WRONG_USAGE, fail, print_json, stderr
from exports.destinations import ExportError, destination_at
from exports.export import DEFAULT_STEM, Report, export_dataset
from exports.files import formats_named
from runtime.settings import load_settings
from schemas.registry import UnknownDataset, dataset_named


def export(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset to export.")],
    to: Annotated[
        str, typer.Option("--to", metavar="DIR|URL", help="A folder, or s3://bucket/prefix, gs://…, az://….")
    ],
    formats: Annotated[
        str, typer.Option("--format", metavar="csv,parquet", help="One format or several, a file each.")
    ] = "csv,parquet",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="What the files are called, without ending.")
    ] = DEFAULT_STEM,
    masked: Annotated[bool, typer.Option("--masked", help="Without personal data: the fields say [masked].")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Write all rows of a dataset to files: typed, sorted by key, of one moment, in constant memory.

    In a CSV file, a text that a spreadsheet would run as a formula gets an apostrophe before it; --format csv-as-stored
    leaves it out, for programs that read the file.

    A file appears at its destination whole or not at all. S3 takes AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION
    and AWS_ENDPOINT_URL. A folder below OBJECT_STORE_DIR stands in for s3://test-bucket where there are no credentials,
    and for any bucket with OBJECT_STORE=local.

    Exit code 0 only if every file was delivered; 1 otherwise; 2 for wrong usage.

    Examples:

      headrace export orders --to s3://test-bucket --format csv,parquet

      headrace export customers --to exports --format parquet --name customers

      headrace export customers --to exports --masked
    """
    settings = load_settings()
    try:
        chosen, wanted = dataset_named(dataset), formats_named(formats)
        destination = destination_at(to, settings)
    except (UnknownDataset, ExportError) as error:
        fail(str(error), WRONG_USAGE)
    if "/" in name or not name.strip("."):
        fail(f"--name {name!r}: expected a file's name without its folder and ending", WRONG_USAGE)
    if destination.remark:
        stderr.print(destination.remark, markup=False)
    report = Report(None if as_json else typer.echo)
    try:
        asyncio.run(export_dataset(settings, chosen, destination, wanted, name, report, masked=masked))
    except ExportError as error:
        fail(str(error))
    if as_json:
        print_json({"dataset": chosen.name, **report.as_json(destination)})
