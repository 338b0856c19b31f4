"""The deep audit of all stores that follow Postgres, and their repair."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from monitoring.lag import PartitionLag, read_lag
from runtime.patience import Patience
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from schemas.sinks import POSTGRES, SINKS, load
from services.audits.store_comparison import Rows, StoreAudit, audit_store
from services.audits.store_repair import Difference, Repair, differences, repair
from sinks.sink import HeldVersions
from stores.postgres_engine import postgres_engine
from stores.row_counts import compare_count, recount
from stores.tables import dataset_table, outbox

POLL_SECONDS = 0.05
"""For the outbox, which is emptied within some ms."""

Progress = Callable[[str, str, int], None]
"""Called with a dataset, a store and the number of rows that have been compared."""


@dataclass(frozen=True)
class Miscount:
    """A dataset whose rows are not as many as is kept: somebody wrote while the triggers were disabled."""

    dataset: str
    kept: int
    rows: int


@dataclass
class DeepAudit:
    """The comparison of all stores, and the repairs that led to it."""

    stores: list[StoreAudit]
    found: list[StoreAudit] = field(default_factory=list)
    """The comparison before the repair; empty if nothing was to be repaired."""
    repairs: list[Repair] = field(default_factory=list)
    miscounts: list[Miscount] = field(default_factory=list)
    recounted: bool = False
    """The counts that were wrong are right now."""

    @property
    def clean(self) -> bool:
        """Every store follows, and the rows are as many as is kept."""
        return all(one.clean for one in self.stores) and (self.recounted or not self.miscounts)

    def json(self) -> dict[str, Any]:
        """For scripts."""
        told: dict[str, Any] = {"clean": self.clean, "stores": _json(self.stores)}
        if self.miscounts:
            told |= {"miscounts": [asdict(one) for one in self.miscounts], "recounted": self.recounted}
        done = {"found": _json(self.found), "repairs": [asdict(one) for one in self.repairs]}
        return told | (done if self.found else {})


def _json(results: Sequence[StoreAudit]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": one.dataset, "store": one.store, "compared": one.compared, "clean": one.clean,
            **one.counts(), "in_flight": one.in_flight, "cut_short": one.cut_short, "keys": one.differences,
        }
        for one in results
    ]  # fmt: skip


async def audit_stores(settings: Settings, settle: float, progress: Progress, *, repairing: bool) -> DeepAudit:
    """Compare every dataset in every store; a store that lags has `settle` seconds to catch up.

    With `repairing`, publish the keys that differ and compare again, until nothing differs or a repair changes nothing.
    Raises StoreTrouble, and what the clients raise when a store does not answer.
    """
    miscounts = await _count(settings, repairing=repairing)
    result = DeepAudit(await _compare(settings, settle, progress), miscounts=miscounts, recounted=repairing)
    tried: list[set[Difference]] = []
    while repairing and (differing := differences(result.stores)):
        result.found = result.found or result.stores
        # The first try keeps versions, the second does not; what differs after that is not ours to repair.
        if len(tried) > 1 and differing <= tried[-1] & tried[-2]:
            break
        result.repairs += await repair(settings, result.stores, differing & (tried[-1] if tried else set()))
        tried.append(differing)
        result.stores = await _compare(settings, settle, progress)
    return result


async def _count(settings: Settings, *, repairing: bool) -> list[Miscount]:
    """The datasets whose rows are not as many as is kept. With `repairing` they are counted again."""
    engine = postgres_engine(settings, pool_size=1)
    wrong = []
    try:
        for dataset in all_datasets():
            async with engine.begin() as connection:
                kept, rows = await compare_count(connection, dataset.table)
                if kept != rows:
                    wrong.append(Miscount(dataset.name, kept, rows))
                    if repairing:
                        await connection.run_sync(recount, dataset_table(dataset))
    finally:
        await engine.dispose()
    return wrong


async def _compare(settings: Settings, settle: float, progress: Progress) -> list[StoreAudit]:
    engine = postgres_engine(settings, pool_size=1)
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
                partial(progress, dataset.name, store.name),
            )
            for dataset in all_datasets()
            for store in stores
        ]


async def caught_up(settings: Settings, engine: AsyncEngine, dataset: Dataset, group: str, wait: float) -> bool:
    """Wait until `group` has taken the events of all rows that are committed now; `wait` seconds without progress.

    The Postgres sink commits a batch's offsets after its events are confirmed, and the relay takes an event out of the
    outbox after that. So once the sink has passed the ends that its topic has now, or the outbox holds nothing any more
    of what it holds now, all these events are on `<dataset>.changed`; and once the group has passed the ends of that
    topic as they are then, it has taken them. Asks at least once. Raises KafkaException when the broker does not
    answer, SQLAlchemyError when Postgres does not.
    """
    if dataset.written_by == "api":
        published = await _outbox_emptied(engine, dataset, Patience(wait))
    else:
        published = await _passed(settings, POSTGRES.group, dataset.clean_topic, Patience(wait))
    return published and await _passed(settings, group, dataset.changed_topic, Patience(wait))


async def _passed(settings: Settings, group: str, topic: str, patience: Patience) -> bool:
    """Wait until the group has passed the ends that the topic has now, open transactions too. Asks once at least."""
    ends: dict[int, int] | None = None
    while True:
        found = await read_lag(settings)
        rows = [row for row in found if (row.group, row.topic) == (settings.named(group), settings.named(topic))]
        ends = ends or {row.partition: row.written for row in rows}
        left = sum(max(0, ends.get(row.partition, 0) - _position(row)) for row in rows)
        if not left:
            return True
        patience.note(left)
        if not patience.remaining:
            return False
        await asyncio.sleep(POLL_SECONDS)


async def _outbox_emptied(engine: AsyncEngine, dataset: Dataset, patience: Patience) -> bool:
    """Wait until the dataset's events in the outbox are published, or overtaken by newer ones of their keys."""
    own = outbox.c.dataset == dataset.name
    newest = int(await _ask(engine, select(func.coalesce(func.max(outbox.c.version), 0)).where(own)))
    left = select(func.count()).where(own, outbox.c.version <= newest)
    while count := int(await _ask(engine, left)):
        patience.note(count)
        if not patience.remaining:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _ask(engine: AsyncEngine, question: Select[Any]) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(question)).scalar_one()


def _position(row: PartitionLag) -> int:
    """The next offset that the group will read. What the partition holds no more it will not."""
    return row.end - row.lag
