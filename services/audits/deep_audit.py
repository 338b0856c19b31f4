"""Compares the versions of all keys in a store with those of the rows, in pages. Changes nothing.

Versions are compared, not contents: a document that somebody has edited under its version is not found.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.dataset import Dataset
from services.audits.store_versions import Rows
from sinks.sink import PAGE, Held, HeldVersions, Holdings

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

    def saw(self, held: Holdings) -> None:
        """Remember the highest version."""
        self.highest = max(self.highest, max((one.version for one in held.values()), default=0))


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

    `caught_up(seconds)` waits for the store: whether it has taken what was committed when it was called. A key that
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


def deep_audit_json(results: Iterable[StoreAudit]) -> dict[str, Any]:
    """The comparison for scripts. Pure."""
    stores = [
        {
            "dataset": one.dataset, "store": one.store, "compared": one.compared, "clean": one.clean,
            **counts(one), "in_flight": one.in_flight, "cut_short": one.cut_short, "keys": one.differences,
        }
        for one in results
    ]  # fmt: skip
    return {"clean": all(store["clean"] for store in stores), "stores": stores}


def counts(one: StoreAudit) -> dict[str, int]:
    """Differing keys by kind. Pure."""
    counted = Counter(one.differences.values())
    return {kind: counted[kind] for kind in KINDS}


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
