"""Waits until a store that follows Postgres has taken every change event of the rows that are committed now."""

import asyncio
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from monitoring.lag import PartitionLag, read_lag
from runtime.patience import Patience
from runtime.settings import Settings
from schemas.dataset import Dataset
from stores.tables import outbox

POSTGRES_GROUP = "sink-postgres"

POLL_SECONDS = 0.05
"""For the outbox, which is emptied within some ms."""


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
        published = await _passed(settings, POSTGRES_GROUP, dataset.clean_topic, Patience(wait))
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
        # No pause between two readings: each takes some tenths of a second, spent in other processes.
        patience.note(left)
        if not patience.remaining:
            return False


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
