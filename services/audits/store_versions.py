"""The versions of the rows in Postgres, in pages: what the stores that follow are compared with."""

# ruff: noqa: S608 (only names of ours are put into SQL)

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.dataset import Dataset
from sinks.sink import PAGE
from stores.tables import same_key

Versions = dict[str, int]
"""Key text → version."""


class Rows:
    """The truth: the rows in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def pages(self, dataset: Dataset) -> AsyncIterator[Versions]:
        """All rows by key. Each page is a query of its own, so that no snapshot is held for the whole walk."""
        names = ", ".join(f't."{name}"' for name in dataset.key)
        last: list[str] | None = None
        while True:
            after = ", ".join(f"CAST(:k{number} AS text)" for number in range(len(dataset.key)))
            where = f"WHERE ({names}) > ({after})" if last else ""
            statement = text(
                f"SELECT t.version, {', '.join(map(_as_text, dataset.key))} "
                f'FROM "{dataset.table}" t {where} ORDER BY {names} LIMIT {PAGE}'
            )
            values = {f"k{number}": value for number, value in enumerate(last or ())}
            async with self._engine.connect() as connection:
                rows = (await connection.execute(statement, values)).all()
            if rows:
                yield {dataset.key_text(dict(zip(dataset.key, row[1:], strict=True))): row[0] for row in rows}
            if len(rows) < PAGE:
                return
            last = list(rows[-1][1:])

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Versions:
        """The versions of those of the keys that have a row."""
        fields = []
        for key in keys:
            try:
                fields.append(dataset.key_fields(key))
            except ValueError:
                continue  # no row can have it
        arrays = ", ".join(f"CAST(:k{number} AS text[])" for number in range(len(dataset.key)))
        names = ", ".join(f'"{name}"' for name in dataset.key)
        statement = text(
            f"SELECT t.version, {', '.join(map(_as_text, dataset.key))} "
            f'FROM unnest({arrays}) AS w ({names}) JOIN "{dataset.table}" t ON {same_key(dataset, "w")}'
        )
        values = {f"k{number}": [one[name] for one in fields] for number, name in enumerate(dataset.key)}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement, values)).all()
        return {dataset.key_text(dict(zip(dataset.key, row[1:], strict=True))): row[0] for row in rows}

    async def tombstones(self, dataset: Dataset, keys: Sequence[str]) -> Versions:
        """The versions of those of the keys that have been deleted and are remembered as such."""
        statement = text("SELECT key, version FROM tombstones WHERE dataset = :dataset AND key = ANY(:keys)")
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement, {"dataset": dataset.name, "keys": list(keys)})).all()
        return {row.key: row.version for row in rows}


def _as_text(name: str) -> str:
    return f'CAST(t."{name}" AS text)'
