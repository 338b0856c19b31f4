"""Epochs of raw topics. A topic that was deleted and created again counts its offsets from 0: without more, its
records would look like repeats of those before.

Postgres remembers the topic's id. When the broker names another one, a new epoch begins, in one transaction: the
coverage of the old epoch, the outcomes of its runs, its failures (with the coordinates that they were sent again with)
and landed records are kept under the name `<topic>@<epoch>`, and rows and tombstones from it are ordered against new
records by time, as between partitions (decision 0013). Records of the old epoch that are still on their way are told by
the broker's timestamp: the new topic has none older than its first.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.kafka.topic_admin import Incarnation, incarnations
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import Origin
from schemas.registry import ingested_datasets
from stores.postgres_connection import Connection, postgres_connection

_MOST_PARTITIONS = 100_000

RAW_SUFFIX = ".raw"  # of a dataset's raw topic: see schemas/dataset.py

_KNOWN = "SELECT topic, epoch, topic_id, began_at FROM topic_epochs WHERE topic = ANY($1::text[]) ORDER BY topic, epoch"

_BEGIN = "INSERT INTO topic_epochs (topic, epoch, topic_id, began_at) VALUES ($1, $2, $3, $4)"

# Waits for every sink's transaction under way, and holds the next ones until the coverage is sorted.
_LOCK = "LOCK TABLE coverage, topic_epochs IN EXCLUSIVE MODE"


@dataclass(frozen=True)
class Epoch:
    """The current epoch of a topic. `began_at` in ms since the epoch of the clock; 0 for a topic's first."""

    number: int
    topic_id: str
    began_at: int


def archived_topic(topic: str, epoch: int) -> str:
    """The name under which the coverage of an ended epoch is kept; no topic of Kafka's can have it. Pure."""
    return f"{topic}@{epoch}"


def archived_partition(partition: int, epoch: int) -> int:
    """A negative number, equal only to that of the same partition in the same ended epoch. Pure."""
    return -(epoch * _MOST_PARTITIONS + partition + 1)


def real_partition(partition: int) -> int:
    """The partition behind one that may be archived. Pure."""
    return partition if partition >= 0 else (-partition - 1) % _MOST_PARTITIONS


def topic_of(topic: str, partition: int) -> str:
    """The name under which the coverage of a partition, which may be archived, of this topic is kept. Pure."""
    return topic if partition >= 0 else archived_topic(topic, (-partition - 1) // _MOST_PARTITIONS)


def real_topic(topic: str) -> str:
    """The topic behind one that may be archived. Pure."""
    return topic.partition("@")[0]


def archived(origin: Origin, epoch: int) -> Origin:
    """The coordinates of a record of an ended epoch. Pure."""
    partition = archived_partition(origin.partition, epoch)
    return Origin(archived_topic(origin.topic, epoch), partition, origin.offset, origin.timestamp)


def raw_topics(settings: Settings) -> dict[str, Dataset]:
    """Each dataset by its physical raw topic. Pure."""
    return {settings.named(dataset.raw_topic): dataset for dataset in ingested_datasets()}


def is_raw(topic: str, settings: Settings) -> bool:
    """True for the physical raw topic of a dataset of this pipeline, declared still or not. Pure."""
    return topic.startswith(settings.named("")) and topic.endswith(RAW_SUFFIX)


async def refresh_epochs(connection: Connection, settings: Settings) -> dict[str, list[Epoch]]:
    """Begin a new epoch of each raw topic that is another than the one that is known, and return all epochs.

    Idempotent, and safe when several processes do it at once. Of a topic that is empty nothing can be counted
    wrongly, and it has no first record yet: its new epoch begins later. Raises KafkaException, and what asyncpg raises.
    """
    datasets = raw_topics(settings)
    topics = await asyncio.to_thread(incarnations, settings, list(datasets))
    known = await read_epochs(connection, list(topics))
    if not any(is_another(known.get(topic), now) for topic, now in topics.items()):
        return known
    async with connection.transaction():
        await connection.execute(_LOCK)
        known = await read_epochs(connection, list(topics))
        for topic, now in topics.items():
            epochs = known.setdefault(topic, [])
            if not is_another(epochs, now):
                continue
            if epochs:
                await _archive(connection, topic, datasets[topic], epochs[-1].number)
            began_at = now.first_at if epochs and now.first_at is not None else 0
            epoch = Epoch(len(epochs), now.topic_id, began_at)
            await connection.execute(_BEGIN, topic, epoch.number, epoch.topic_id, epoch.began_at)
            epochs.append(epoch)
    return known


async def note_epochs(settings: Settings) -> None:
    """`refresh_epochs` on a connection of its own: before somebody relies on the coverage of a topic as it is now."""
    async with postgres_connection(settings) as connection:
        await refresh_epochs(connection, settings)


async def read_epochs(connection: Connection, topics: Sequence[str]) -> dict[str, list[Epoch]]:
    """The epochs of each topic that has been seen, oldest first."""
    found: dict[str, list[Epoch]] = {}
    for topic, number, topic_id, began_at in await connection.fetch(_KNOWN, list(topics)):
        found.setdefault(topic, []).append(Epoch(number, topic_id, began_at))
    return found


def is_another(epochs: Sequence[Epoch] | None, now: Incarnation) -> bool:
    """True if this incarnation is newer than the last of the epochs, and has records to cover. Pure."""
    if not epochs:
        return True
    return epochs[-1].topic_id != now.topic_id and now.first_at is not None


async def _archive(connection: Connection, topic: str, dataset: Dataset, epoch: int) -> None:
    name = archived_topic(topic, epoch)
    offset = epoch * _MOST_PARTITIONS + 1
    for table in ("coverage", "run_outcomes", "ingest_failures", "raw_api_data", "raw_csv_data"):
        moved = f'UPDATE "{table}" SET topic = $2, "partition" = -("partition" + $3) WHERE topic = $1'  # noqa: S608
        await connection.execute(moved, topic, name, offset)
    replays = "SET replayed_topic = $2, replayed_partition = -(replayed_partition + $3) WHERE replayed_topic = $1"
    await connection.execute(f"UPDATE ingest_failures {replays}", topic, name, offset)
    moved = "SET raw_partition = -(raw_partition + $1) WHERE raw_partition >= 0"
    await connection.execute(f'UPDATE "{dataset.table}" {moved}', offset)
    await connection.execute(f"UPDATE tombstones {moved} AND dataset = $2", offset, dataset.name)
