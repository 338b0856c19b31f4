"""A dataset's rows out of Postgres by a server-side cursor: one snapshot, constant memory, in the order of the key."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from exports.destinations import ExportError
from runtime.settings import Settings
from schemas.dataset import Dataset
from stores.tables import OUTCOMES

BATCH_ROWS = 65_536
"""Rows that are in memory at a time, and of a Parquet row group."""

_INITIAL = f"""
    SELECT coalesce(sum({" + ".join(outcome for outcome in OUTCOMES if outcome != "deleted")}), 0)::bigint
    FROM coverage WHERE topic = $1 OR starts_with(topic, $1 || '@')"""  # noqa: S608 (column names of ours)


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

    async def batches(self) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """All rows, their values in the order of the fields, sorted by key, byte by byte whatever the locale."""
        names = ", ".join(f'"{field.name}"' for field in self._dataset.fields)
        order = ", ".join(f'"{name}" COLLATE "C"' for name in self._dataset.key)
        query = f'SELECT {names} FROM "{self._dataset.table}" ORDER BY {order}'  # noqa: S608 (names of ours)
        cursor = await self._connection.cursor(query)
        while rows := await cursor.fetch(BATCH_ROWS):
            yield rows


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
