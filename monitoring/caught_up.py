"""Has a store that follows Postgres taken every change event of the rows that were committed before a moment?"""

import asyncio
import time
from typing import Any

from sqlalchemy import Select, exists, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from monitoring.lag import PartitionLag, read_lag
from runtime.settings import Settings
from runtime.tables import outbox
from schemas.dataset import Dataset

POSTGRES_GROUP = "sink-postgres"

LOOK_EVERY_SECONDS = 0.05
"""At the outbox, which is emptied within some ms."""


async def caught_up(settings: Settings, engine: AsyncEngine, dataset: Dataset, group: str, wait: float) -> bool:
    """Wait up to `wait` seconds until `group` has taken the events of all rows that are committed now.

    The Postgres sink commits a batch's offsets after its events are confirmed, and the relay takes an event out of the
    outbox after that. So once the sink has passed the ends that its topic has now, or the outbox holds nothing any more
    of what it holds now, all these events are on `<dataset>.changed`; and once the group has passed the ends of that
    topic as they are then, it has taken them. Asks at least once. Raises KafkaException when the broker does not
    answer, SQLAlchemyError when Postgres does not.
    """
    deadline = time.monotonic() + wait
    if dataset.written_by == "api":
        published = await _outbox_emptied(engine, dataset, deadline)
    else:
        published = await _passed(settings, POSTGRES_GROUP, dataset.clean_topic, deadline)
    return published and await _passed(settings, group, dataset.changed_topic, deadline)


async def _passed(settings: Settings, group: str, topic: str, deadline: float) -> bool:
    """Whether the group passes all that the topic holds now, also what waits for a transaction. Asks at least once."""
    ends: dict[int, int] | None = None
    while True:
        found = await read_lag(settings)
        rows = [row for row in found if (row.group, row.topic) == (settings.named(group), settings.named(topic))]
        ends = ends or {row.partition: row.written for row in rows}
        if all(_position(row) >= ends.get(row.partition, 0) for row in rows):
            return True
        # No pause between two looks: each takes some tenths of a second, spent in other processes.
        if time.monotonic() >= deadline:
            return False


async def _outbox_emptied(engine: AsyncEngine, dataset: Dataset, deadline: float) -> bool:
    """Whether all that the outbox holds now of the dataset is published, or overtaken by something newer of its key."""
    own = outbox.c.dataset == dataset.name
    newest = int(await _ask(engine, select(func.coalesce(func.max(outbox.c.version), 0)).where(own)))
    while await _ask(engine, select(exists().where(own, outbox.c.version <= newest))):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    return True


async def _ask(engine: AsyncEngine, question: Select[Any]) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(question)).scalar_one()


def _position(row: PartitionLag) -> int:
    """The next offset that the group will read. What the partition holds no more it will not."""
    return row.end - row.lag
