"""Datasets whose tables cannot be read as they are declared, for `/api/health`."""

import time

from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from api.database import reading
from schemas.registry import all_datasets
from stores.table_fit import fit_of

ASK_EVERY_SECONDS = 15.0


class TableWatch:
    """Compares declarations with tables, at most every ASK_EVERY_SECONDS. Opens nothing until it is asked."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._found: dict[str, str] = {}
        self._asked_at = -ASK_EVERY_SECONDS

    async def misfits(self) -> dict[str, str]:
        """Datasets whose tables lack something, with what they lack. Raises Unavailable."""
        if time.monotonic() >= self._asked_at + ASK_EVERY_SECONDS:
            async with reading(self._engine) as connection:
                self._found = await connection.run_sync(_compare)
            self._asked_at = time.monotonic()
        return self._found


def _compare(connection: Connection) -> dict[str, str]:
    there = set(inspect(connection).get_table_names())
    found = {}
    for dataset in all_datasets():
        if dataset.table not in there:
            found[dataset.name] = f"the table {dataset.table} is not there; run `headrace setup`"
            continue
        fit = fit_of(connection, dataset)
        undone = [f"{dataset.name}.{name}: not in the table yet; run `headrace setup`" for name in fit.missing]
        if lines := fit.misfits + undone:
            found[dataset.name] = "; ".join(lines)
    return found
