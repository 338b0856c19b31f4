"""Compares the versions of all keys in a store with those of the rows, in pages. Changes nothing.

Versions are compared, not contents: a document that somebody has edited under its version is not found.
"""

# ruff: noqa: S608 (only names of ours are put into SQL)

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.dataset import Dataset
from sinks.sink import PAGE, Held, HeldVersions, Holdings
from stores.tables import same_key

Versions = dict[str, int]
"""Key text → version."""

MISSING, STALE, NEWER, ORPHANED = KINDS = ("missing", "stale", "newer", "orphaned")

MAX_SUSPECTS = 100_000
"""Differing keys that are kept per dataset and store to be looked at again. With more, the walk ends there."""


@dataclass
class StoreAudit:
    """One dataset in one store."""

    dataset: str
    store: str
    compared: int = 0
    """Rows that were compared."""
    differences: dict[str, str] = field(default_factory=dict)
    """Key → missing, stale (older than the row), newer (must never be) or orphaned (there is no row)."""
    in_flight: int = 0
    """Keys that differ, but whose row was still changing, or its event not taken yet, when the time was up."""
    cut_short: bool = False
    """There were too many differences to go on: more may differ."""
    highest: int = 0
    """The highest version that was seen in the store."""

    @property
    def clean(self) -> bool:
        """Everything was compared, and nothing differs that is not on its way."""
        return not self.differences and not self.cut_short

    def counts(self) -> dict[str, int]:
        """Differing keys by kind."""
        counted = Counter(self.differences.values())
        return {kind: counted[kind] for kind in KINDS}

    def saw(self, held: Holdings) -> None:
        """Remember the highest version."""
        self.highest = max(self.highest, max((one.version for one in held.values()), default=0))


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


def difference(row: int | None, held: Held | None, *, complete: bool) -> str | None:
    """The kind of difference between a store and the row's version; None if there is none. Pure.

    `complete`: the store must hold every row.
    """
    if row is None:
        return ORPHANED if held and held.record else None
    if held is None:
        return MISSING if complete else None
    if held.version > row:
        return NEWER
    return STALE if held.serves and held.version < row else None


async def audit_store(
    rows: Rows,
    store: HeldVersions,
    dataset: Dataset,
    caught_up: Callable[[float], Awaitable[bool]],
    wait: float,
    progress: Callable[[int], None],
) -> StoreAudit:
    """Compare one dataset in one store; `progress` is told how many rows have been compared.

    `caught_up(seconds)` waits for the store, and says if it has taken what was committed when it was called. A key that
    differs is looked at again after that. It is a difference if it still differs and its row did not change meanwhile;
    what is still on its way after `wait` seconds is in flight. A store that is ahead of Postgres need not catch up.
    """
    result = StoreAudit(dataset.name, store.name)
    suspects = await _walk(rows, store, dataset, result, progress)
    deadline = time.monotonic() + wait
    while suspects:
        before = await _states(rows, dataset, suspects)
        arrived = await caught_up(max(0.0, deadline - time.monotonic()))
        held = await _holdings(store, dataset, suspects)
        after = await _states(rows, dataset, suspects)
        result.saw(held)
        moving = set()
        for key in sorted(suspects):
            row, _ = after[key]
            kind = difference(row, held.get(key), complete=store.complete)
            if kind and before[key] == after[key] and (arrived or kind == NEWER):
                result.differences[key] = kind
            elif kind:
                moving.add(key)
        suspects = moving
        if time.monotonic() >= deadline:
            break
    result.in_flight = len(suspects)
    return result


async def _walk(
    rows: Rows, store: HeldVersions, dataset: Dataset, result: StoreAudit, progress: Callable[[int], None]
) -> set[str]:
    suspects: set[str] = set()
    async for page in rows.pages(dataset):
        held = await store.versions(dataset, list(page))
        result.saw(held)
        suspects |= {
            key for key, row in page.items() if difference(row, held.get(key), complete=store.complete) is not None
        }
        result.compared += len(page)
        progress(result.compared)
        if len(suspects) >= MAX_SUSPECTS:
            result.cut_short = True
            return suspects
    async for keys in store.pages(dataset):
        present = await rows.versions(dataset, keys)
        suspects |= {key for key in keys if key not in present}
        if len(suspects) >= MAX_SUSPECTS:
            result.cut_short = True
            return suspects
    return suspects


async def _states(rows: Rows, dataset: Dataset, keys: Iterable[str]) -> dict[str, tuple[int | None, int | None]]:
    """By key: the versions of its row and of its tombstone. What has come and gone has another tombstone."""
    states: dict[str, tuple[int | None, int | None]] = {}
    for page in _paged(list(keys)):
        present, deleted = await rows.versions(dataset, page), await rows.tombstones(dataset, page)
        states |= {key: (present.get(key), deleted.get(key)) for key in page}
    return states


async def _holdings(store: HeldVersions, dataset: Dataset, keys: Iterable[str]) -> Holdings:
    held: Holdings = {}
    for page in _paged(list(keys)):
        held |= await store.versions(dataset, page)
    return held


def _paged(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + PAGE] for start in range(0, len(keys), PAGE)]


def _as_text(name: str) -> str:
    return f'CAST(t."{name}" AS text)'
