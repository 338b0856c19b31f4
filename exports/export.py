"""One dataset from Postgres to files at a destination, and what that says of itself."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from exports.arrow_types import arrow_schema, batch_of_rows
from exports.destinations import Destination
from exports.files import Delivered, export_files
from exports.stored_rows import stored_rows
from runtime.settings import Settings
from schemas.dataset import Dataset

DEFAULT_STEM = "processed_output"
"""Name of the files, without their ending."""


class Report:
    """Collects what happens, and says each thing at once where `say` is given."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or (lambda _: None)
        self._counts: dict[str, int] = {}
        self._files: list[Delivered] = []

    def written(self, initial_rows: int, rows: int) -> None:
        """All rows are written: how much came in, how much of it is in the files."""
        self._counts = {"initial_rows": initial_rows, "rows_after_cleaning": rows}
        self._say(f"Initial rows: {initial_rows}")
        self._say(f"Rows after cleaning: {rows}")

    def delivered(self, file: Delivered) -> None:
        """A file is at its destination."""
        self._files.append(file)
        self._say(file.line)

    def as_json(self, destination: Destination) -> dict[str, Any]:
        """Everything, for scripts; `folder` is that of this machine which holds the files."""
        return {
            **self._counts,
            "local": destination.folder is not None,
            "folder": str(destination.folder) if destination.folder else None,
            "files": [{"name": one.name, "address": one.address, "bytes": one.bytes} for one in self._files],
        }


async def export_dataset(
    settings: Settings,
    dataset: Dataset,
    destination: Destination,
    formats: Sequence[str],
    stem: str,
    report: Report,
) -> None:
    """Export the dataset as it stands now. Reports when all rows are written, then each file that is delivered.

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
        report.written(initial, files.rows)
        for one in files.deliver():
            report.delivered(one)
