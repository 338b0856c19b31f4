"""One dataset from Postgres to files at a destination: one snapshot, constant memory, in the order of the key."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pyarrow as pa

from exports.destinations import Destination, ExportError
from exports.files import Delivered, ExportFiles, arrow_schema, batch_of_rows, export_files
from runtime.settings import Settings
from schemas.dataset import Dataset, DatasetField
from schemas.fields import TextColumn
from schemas.masking import MASK
from stores.tables import OUTCOMES

DEFAULT_STEM = "processed_output"
"""Name of the files, without their ending."""

BATCH_ROWS = 65_536
"""Rows that are in memory at a time, and of a Parquet row group."""

_INITIAL = f"""
    SELECT coalesce(sum({" + ".join(outcome for outcome in OUTCOMES if outcome != "deleted")}), 0)::bigint
    FROM coverage WHERE topic = $1 OR starts_with(topic, $1 || '@')"""  # noqa: S608 (column names of ours)


class Report:
    """Delivers files and collects what happens; says each thing at once where `say` is given."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or (lambda _: None)
        self._counts: dict[str, int] = {}
        self._files: list[Delivered] = []

    def deliver(self, files: ExportFiles, initial_rows: int) -> None:
        """Deliver the files that hold all that is left of so many rows. Blocking. Raises ExportError."""
        self._counts = {"initial_rows": initial_rows, "rows_after_cleaning": files.rows}
        self._say(f"Initial rows: {initial_rows}")
        self._say(f"Rows after cleaning: {files.rows}")
        for file in files.deliver():
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
    *,
    masked: bool = False,
) -> None:
    """Export the dataset as it stands now. Reports when all rows are written, then each file that is delivered.

    With `masked`, personal fields that are text say so only, and others are empty.

    The files are those of one moment; at their destination each appears at once and whole, or not at all. Memory does
    not grow with the dataset; the files are on this machine's disk until they are delivered. Blocks the loop while it
    writes. Raises ExportError.
    """
    destination.check()
    with ExitStack() as stack:
        # A slow upload must not hold the snapshot, which keeps Postgres from cleaning up.
        async with stored_rows(settings, dataset) as source:
            hidden = dataset.personal_fields if masked else frozenset[str]()
            schema = arrow_schema(dataset, await source.widths())
            schema = pa.schema(field.with_nullable(field.nullable or field.name in hidden) for field in schema)
            files = stack.enter_context(export_files(destination, stem, formats, schema))
            initial = await source.initial_rows()
            async for rows in source.batches(hidden):
                files.write(batch_of_rows(schema, rows))
        report.deliver(files, initial)


class StoredRows:
    """The rows of one dataset as they stood when it was opened."""

    def __init__(self, connection: Any, dataset: Dataset, raw_topic: str) -> None:
        self._connection = connection
        self._dataset = dataset
        self._raw_topic = raw_topic

    async def initial_rows(self) -> int:
        """The number of raw records of the dataset with an outcome, good or bad; deletes don't count."""
        return int(await self._connection.fetchval(_INITIAL, self._raw_topic))

    async def widths(self) -> dict[str, tuple[int, int]]:
        """Of each decimal field without bounds: digits before and after the point that its values have at most."""
        widths = {}
        for field in self._dataset.fields:
            if field.type.arrow_type() is None:
                whole = f'max(length(trunc(abs("{field.name}"))::text)), max(scale("{field.name}"))'
                before, after = await self._connection.fetchrow(f'SELECT {whole} FROM "{self._dataset.table}"')  # noqa: S608 (names of ours)
                widths[field.name] = before or 0, after or 0
        return widths

    async def batches(self, hidden: Collection[str] = ()) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """All rows, their values in the order of the fields, sorted by key, byte by byte whatever the locale.

        Of `hidden` fields there is the mask, where they are text, or nothing.
        """
        names = ", ".join(
            _masked(field) if field.name in hidden else f'"{field.name}"' for field in self._dataset.fields
        )
        order = ", ".join(f'"{name}" COLLATE "C"' for name in self._dataset.key)
        query = f'SELECT {names} FROM "{self._dataset.table}" ORDER BY {order}'  # noqa: S608 (names of ours)
        cursor = await self._connection.cursor(query)
        while rows := await cursor.fetch(BATCH_ROWS):
            yield rows


def _masked(field: DatasetField) -> str:
    """SQL for a personal field: its values as the mask if they are text. Pure."""
    return (
        f"""CASE WHEN "{field.name}" IS NOT NULL THEN '{MASK}' END""" if isinstance(field.type, TextColumn) else "NULL"
    )


@asynccontextmanager
async def stored_rows(settings: Settings, dataset: Dataset) -> AsyncIterator[StoredRows]:
    """The rows, within one read-only transaction. Raises ExportError if Postgres does not answer, there or later."""
    connect: Any = asyncpg.connect
    try:
        connection = await connect(
            settings.plain_database_url, timeout=10, server_settings={"application_name": "headrace-export"}
        )
    except (asyncpg.PostgresError, TimeoutError, OSError) as error:
        raise ExportError(
            f"Postgres does not answer: {error or type(error).__name__}; see `headrace status`"
        ) from error
    try:
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield StoredRows(connection, dataset, settings.named(dataset.raw_topic))
        finally:
            await connection.close()
    except asyncpg.UndefinedTableError as error:
        raise ExportError(f"there is no table {dataset.table} yet: `headrace setup` makes it") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ExportError(f"Postgres stopped answering: {error}; nothing was exported") from error
