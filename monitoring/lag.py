"""Lag per group, topic and partition, from committed offsets up to the last stable one.

Committed, not read: a worker that reads on but is stuck before its commit would look healthy by its own account. Last
stable: what lies behind the beginning of an open transaction nobody can read yet, so nobody is behind with it.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException

from monitoring.samples import PartitionSample, Sample
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS
from runtime.settings import Settings
from schemas.sinks import SINKS
from schemas.topics import all_topics

AGAIN_SECONDS = 0.2
"""Between two tries while a partition has no leader."""


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

    Raises KafkaException when the broker cannot be reached within REQUEST_TIMEOUT_SECONDS, for a topic that does not
    exist, and for a partition that stays without a leader for so long.
    """
    from monitoring.groups_reader import GroupsReader  # here, since it loads a second Kafka client

    groups = our_groups(settings)
    reader = GroupsReader(settings, groups)
    deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
    try:
        sample = await reader.read(records=False)
        while left_out := [f"{topic}/{number}" for topic, number in reader.unread if topic in _topics(groups)]:
            if time.monotonic() > deadline:
                raise KafkaException(f"no leader answers for {', '.join(left_out)}")
            await asyncio.sleep(AGAIN_SECONDS)
            sample = await reader.read(records=False)
    finally:
        await reader.close()
    if missing := sorted(_topics(groups) - reader.topics):
        raise KafkaException(f"topics do not exist: {', '.join(missing)}; `headrace setup` creates them")
    return lag_of(sample, groups, time.time())


def _topics(groups: Mapping[str, Collection[str]]) -> set[str]:
    return {topic for topics in groups.values() for topic in topics}


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


def lag_of(sample: Sample, groups: Mapping[str, Collection[str]], now: float) -> list[PartitionLag]:
    """The lag of these groups in the topics that they read. `now` is in seconds since the epoch. Pure."""
    return [
        partition_lag(name, topic, row, now)
        for name, wanted in groups.items()
        for topic, rows in (sample.groups or {})[name].topics.items()
        if topic in wanted
        for row in rows
    ]


def partition_lag(group: str, topic: str, row: PartitionSample, now: float) -> PartitionLag:
    """The lag in one partition.

    A group that never committed lags by all that the partition holds, and what the partition holds no more counts for
    nobody. Committed and end offsets are read at different moments, so a busy partition can seem to be ahead of its
    end: clamped at 0.
    """
    held = max(0, row.top - row.end)
    since = row.held_since if held else None
    age = None if since is None else max(0.0, round(now - since, 1))
    return PartitionLag(group, topic, row.partition, row.committed, row.end, row.lag, held, age)
