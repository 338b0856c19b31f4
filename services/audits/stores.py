"""The deep audit of all stores that follow Postgres, and their repair."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine

from runtime.settings import Settings
from schemas.registry import all_datasets
from schemas.sinks import SINKS, load
from services.audits.caught_up import caught_up
from services.audits.deep_audit import StoreAudit, audit_store, deep_audit_json
from services.audits.store_repair import Difference, Repair, differences, repair
from services.audits.store_versions import Rows
from sinks.sink import HeldVersions

Told = Callable[[str, str, int], None]
"""Called with a dataset, a store and the number of rows that have been compared."""


@dataclass
class DeepAudit:
    """The comparison of all stores, and the repairs that led to it."""

    stores: list[StoreAudit]
    found: list[StoreAudit] = field(default_factory=list)
    """The comparison before the repair; empty if nothing was to be repaired."""
    repairs: list[Repair] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """For scripts."""
        done = {"found": deep_audit_json(self.found)["stores"], "repairs": [asdict(one) for one in self.repairs]}
        return deep_audit_json(self.stores) | (done if self.found else {})


async def audit_stores(settings: Settings, settle: float, told: Told, *, repairing: bool) -> DeepAudit:
    """Compare every dataset in every store; a store that lags has `settle` seconds to catch up.

    With `repairing`, publish the keys that differ and compare again, until nothing differs or a repair changes nothing.
    Raises StoreTrouble, and what the clients raise when a store does not answer.
    """
    result = DeepAudit(await _compare(settings, settle, told))
    tried: list[set[Difference]] = []
    while repairing and (differing := differences(result.stores)):
        result.found = result.found or result.stores
        # The first try keeps versions, the second does not; what differs after that is not ours to repair.
        if len(tried) > 1 and differing <= tried[-1] & tried[-2]:
            break
        result.repairs += await repair(settings, result.stores, differing & (tried[-1] if tried else set()))
        tried.append(differing)
        result.stores = await _compare(settings, settle, told)
    return result


async def _compare(settings: Settings, settle: float, told: Told) -> list[StoreAudit]:
    engine = create_async_engine(settings.async_database_url, pool_size=1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        stores: list[HeldVersions] = [
            await stack.enter_async_context(load(sink.versions).opened(settings))
            for sink in SINKS
            if sink.versions and sink.needs not in settings.absent_stores
        ]
        return [
            await audit_store(
                Rows(engine),
                store,
                dataset,
                partial(caught_up, settings, engine, dataset, store.group),
                settle,
                partial(told, dataset.name, store.name),
            )
            for dataset in all_datasets()
            for store in stores
        ]
