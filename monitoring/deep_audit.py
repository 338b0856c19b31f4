"""Do the stores that follow Postgres hold the rows' versions? A walk over every key, in pages. Changes nothing.

Versions are compared, not contents: a document that somebody has edited under its version is not found.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitoring.store_versions import PAGE, Follower, Held, Holdings, Rows, Versions
from schemas.dataset import Dataset

MISSING, STALE, NEWER, ORPHANED = KINDS = ("missing", "stale", "newer", "orphaned")

MAX_SUSPECTS = 100_000
"""Differing keys that are kept per dataset and store to be looked at again. With more, the walk ends there."""

RECHECK_SECONDS = 0.5


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
    """Keys that differed, but whose row was still changing when the time was up."""
    cut_short: bool = False
    """Whether there were too many differences to go on: more may differ."""

    @property
    def clean(self) -> bool:
        """Whether nothing differs that is not on its way."""
        return not self.differences


def difference(row: int | None, held: Held | None, *, complete: bool) -> str | None:
    """How what a store holds differs from the row's version, None if it does not. Pure.

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
    rows: Rows, store: Follower, dataset: Dataset, wait: float, progress: Callable[[int], None]
) -> StoreAudit:
    """Compare one dataset in one store; `progress` is told how many rows have been compared.

    A key that differs is looked at again for `wait` seconds: it is a difference if it still differs then and its row
    has not changed meanwhile. So a follower that is further behind than `wait` shows as stale.
    """
    result = StoreAudit(dataset.name, store.name)
    suspects = await _walk(rows, store, dataset, result, progress)
    deadline = time.monotonic() + wait
    seen = await _row_versions(rows, dataset, suspects)
    while suspects:
        current = await _row_versions(rows, dataset, suspects)
        held = await _holdings(store, dataset, suspects)
        suspects = {
            key: kind
            for key in suspects
            if (kind := difference(current.get(key), held.get(key), complete=store.complete))
        }
        if time.monotonic() >= deadline:
            moving = {key for key in suspects if wait and current.get(key) != seen.get(key)}
            result.in_flight = len(moving)
            result.differences = {key: kind for key, kind in sorted(suspects.items()) if key not in moving}
            break
        await asyncio.sleep(min(RECHECK_SECONDS, wait))
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
    """How many keys differ in which way. Pure."""
    counted = Counter(one.differences.values())
    return {kind: counted[kind] for kind in KINDS}


async def _walk(
    rows: Rows, store: Follower, dataset: Dataset, result: StoreAudit, progress: Callable[[int], None]
) -> dict[str, str]:
    suspects: dict[str, str] = {}

    async for page in rows.pages(dataset):
        held = await store.versions(dataset, list(page))
        for key, row in page.items():
            if kind := difference(row, held.get(key), complete=store.complete):
                suspects[key] = kind
        result.compared += len(page)
        progress(result.compared)
        if len(suspects) >= MAX_SUSPECTS:
            result.cut_short = True
            return suspects
    async for keys in store.pages(dataset):
        present = await _row_versions(rows, dataset, keys)
        suspects |= {key: ORPHANED for key in keys if key not in present}
        if len(suspects) >= MAX_SUSPECTS:
            result.cut_short = True
            return suspects
    return suspects


async def _row_versions(rows: Rows, dataset: Dataset, keys: Iterable[str]) -> Versions:
    found: Versions = {}
    for page in _paged(list(keys)):
        found |= await rows.versions(dataset, page)
    return found


async def _holdings(store: Follower, dataset: Dataset, keys: Iterable[str]) -> Holdings:
    held: Holdings = {}
    for page in _paged(list(keys)):
        held |= await store.versions(dataset, page)
    return held


def _paged(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + PAGE] for start in range(0, len(keys), PAGE)]
