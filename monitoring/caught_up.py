"""Has a store that follows Postgres taken every change event of the rows that were committed before a moment?"""

import time

from monitoring.lag import PartitionLag, read_lag
from runtime.settings import Settings
from schemas.dataset import Dataset

POSTGRES_GROUP = "sink-postgres"


async def caught_up(settings: Settings, dataset: Dataset, group: str, wait: float) -> bool:
    """Wait up to `wait` seconds until `group` has taken the events of all rows that are committed now.

    The Postgres sink commits a batch's offsets after its events are confirmed. So once it has passed the ends that its
    topic has now, all these events are on `<dataset>.changed`; and once the group has passed the ends of that topic as
    they are then, it has taken them. Asks at least once. Raises KafkaException when the broker does not answer.
    """
    deadline = time.monotonic() + wait
    for follower, topic in ((POSTGRES_GROUP, dataset.clean_topic), (group, dataset.changed_topic)):
        ends: dict[int, int] | None = None
        while True:
            found = await read_lag(settings)
            rows = [row for row in found if (row.group, row.topic) == (settings.named(follower), settings.named(topic))]
            ends = ends or {row.partition: row.end for row in rows}
            if all(_position(row) >= ends.get(row.partition, 0) for row in rows):
                break
            # No pause between two looks: each takes some tenths of a second, spent in other processes.
            if time.monotonic() >= deadline:
                return False
    return True


def _position(row: PartitionLag) -> int:
    """The next offset that the group will read."""
    return row.end - row.lag if row.committed is None else row.committed
