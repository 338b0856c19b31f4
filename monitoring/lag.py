"""Lag per group, topic and partition, from committed offsets up to the last stable one.

Committed, not read: a worker that reads on but is stuck before its commit would look healthy by its own account. Last
stable: what lies behind the beginning of an open transaction nobody can read yet, so nobody is behind with it.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from monitoring.open_transactions import OpenTransaction, open_transactions
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS, Place, admin_client, committed_offsets, list_offsets
from runtime.settings import Settings
from schemas.sinks import SINKS
from schemas.topics import all_topics


@dataclass(frozen=True)
class PartitionLag:
    """The position and lag of a group in one partition.

    Offsets are no count of records: markers of transactions, aborted and compacted records have offsets too. A lag of 0
    says that the group has nothing left to read now, and a lag of 1 may be a marker that it has yet to pass.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    """The next offset that the group will read; None before its first commit."""
    end: int
    """The last stable offset: the next to be written, or the first record of a transaction that is open."""
    lag: int
    """Offsets from `committed`, or from the first that the partition still holds, to `end`."""
    held: int = 0
    """Offsets behind `end` that are written and wait for an open transaction. Neither lag nor loss."""
    held_seconds: float | None = None
    """Age of that transaction; None where nothing is held, or the time is not known."""

    @property
    def written(self) -> int:
        """The next offset to be written, at least as it was when the reading began."""
        return self.end + self.held


async def read_lag(settings: Settings) -> list[PartitionLag]:
    """The lag of every group of this pipeline, by group, topic and partition.

    Raises KafkaException when the broker cannot be reached within REQUEST_TIMEOUT_SECONDS.
    """
    return await asyncio.to_thread(_read_lag, settings)


def group_topics(settings: Settings) -> dict[str, list[str]]:
    """The logical topics that each consumer group reads, from the topic registry. Absent stores have no group."""
    absent = {sink.group for sink in SINKS if sink.needs in settings.absent_stores}
    groups: dict[str, list[str]] = {}
    for topic in all_topics():
        for group in set(topic.read_by) - absent:
            groups.setdefault(group, []).append(topic.name)
    return dict(sorted(groups.items()))


def our_groups(settings: Settings) -> dict[str, list[str]]:
    """The groups of this pipeline and the topics that they read, by physical name."""
    return {
        settings.named(group): [settings.named(topic) for topic in topics]
        for group, topics in group_topics(settings).items()
    }


def lag_of(
    group: str,
    committed: Mapping[Place, int],
    beginnings: Mapping[Place, int],
    ends: Mapping[Place, int],
    held: Mapping[Place, OpenTransaction] | None = None,
    now: float = 0.0,
) -> list[PartitionLag]:
    """The lag of one group in every partition of `ends`. `now` is in seconds since the epoch.

    A group that never committed lags by all that the partition holds, and what the partition holds no more counts for
    nobody. Committed and end offsets are read at different moments, so a busy partition can seem to be ahead of its
    end: clamped at 0.
    """
    rows = []
    for place, end in sorted(ends.items()):
        position = committed.get(place)
        lag = max(0, end - max(position or 0, beginnings.get(place, 0)))
        row = PartitionLag(group, *place, position, end, lag)
        transaction = (held or {}).get(place)
        if transaction and end < transaction.end:
            row = replace(row, held=transaction.end - end, held_seconds=transaction.seconds(now))
        rows.append(row)
    return rows


def _read_lag(settings: Settings) -> list[PartitionLag]:
    admin = admin_client(settings)
    groups = our_groups(settings)
    places = _partitions(admin, {topic for topics in groups.values() for topic in topics})
    with ThreadPoolExecutor(len(groups)) as threads:
        read = [
            threads.submit(committed_offsets, settings, group, [p for p in places if p[0] in groups[group]])
            for group in groups
        ]
        committed = {group: future.result() for group, future in zip(groups, read, strict=True)}
    # Ends are read after the commits, so a commit in between cannot make a lag look smaller than it was; and after what
    # is held, so that all which had been written by then lies before an end or is held.
    beginnings = _offsets(admin, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    held = open_transactions(settings, admin, places)
    ends = _offsets(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    rows: list[PartitionLag] = []
    for group, topics in groups.items():
        mine = {place: end for place, end in ends.items() if place[0] in topics}
        rows += lag_of(group, committed[group], beginnings, mine, held, time.time())
    return rows


def _partitions(admin: AdminClient, topics: set[str]) -> list[Place]:
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    missing = sorted(topics - metadata.keys())
    if missing:
        raise KafkaException(f"topics do not exist: {', '.join(missing)}; `headrace setup` creates them")
    return [(topic, partition) for topic in sorted(topics) for partition in sorted(metadata[topic].partitions)]


def _offsets(admin: AdminClient, places: list[Place], spec: OffsetSpec) -> dict[Place, int]:
    wanted = {TopicPartition(topic, partition): spec for topic, partition in places}
    return {(p.topic, p.partition): offset for p, offset in list_offsets(admin, wanted).items()}
