"""One dataset from Postgres to files at a destination."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from exports.arrow_types import arrow_schema, batch_of_rows
from exports.destination import Destination
from exports.files import Delivered, export_files
from exports.stored_rows import stored_rows
from runtime.settings import Settings
from schemas.dataset import Dataset

DEFAULT_STEM = "processed_output"
"""What the files are called, but for their ending."""


@dataclass(frozen=True)
class Exported:
    """How much came in, how much of it is in the files."""

    initial_rows: int
    rows: int


async def export_dataset(
    settings: Settings,
    dataset: Dataset,
    destination: Destination,
    formats: Sequence[str],
    *,
    stem: str = DEFAULT_STEM,
    written: Callable[[Exported], None],
    delivered: Callable[[Delivered], None],
) -> None:
    """Export the dataset as it stands now. Tells when all rows are written, then of each file that is delivered.

    The files are those of one moment; at their destination each appears at once and whole, or not at all. Memory does
    not grow with the dataset; the files are on this machine's disk until they are delivered. Blocks the loop while it
    writes. Raises ExportError.
    """
    destination.check()
    with ExitStack() as stack:
        # A slow upload must not hold the snapshot, which keeps Postgres from cleaning up.
        async with stored_rows(settings, dataset) as source:
            schema = arrow_schema(dataset, await source.widths())
            files = stack.enter_context(export_files(destination, stem, formats, schema))
            initial = await source.initial_rows()
            async for rows in source.batches():
                files.write(batch_of_rows(schema, rows))
        written(Exported(initial, files.rows))
        for one in files.deliver():
            delivered(one)
