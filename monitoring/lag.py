"""Lag per group, topic and partition, from committed offsets.

Committed, not read: a worker that reads on but is stuck before its commit would look healthy by its own account.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runtime.kafka_clients import QUIET
from runtime.settings import Settings
from runtime.topic_admin import REQUEST_TIMEOUT_SECONDS, admin_client, list_offsets, until_settled
from schemas.topics import all_topics

Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(frozen=True)
class PartitionLag:
    """How far a group is in one partition. Offsets are in records."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """The next offset that the group will read; None before its first commit."""
    end: int
    lag: int


async def read_lag(settings: Settings) -> list[PartitionLag]:
    """The lag of every group of this pipeline, by group, topic and partition.

    Raises KafkaException when the broker cannot be reached within REQUEST_TIMEOUT_SECONDS.
    """
    return await asyncio.to_thread(_read_lag, settings)


def group_topics() -> dict[str, list[str]]:
    """The logical topics that each consumer group reads, from the topic registry."""
    groups: dict[str, list[str]] = {}
    for topic in all_topics():
        for group in topic.read_by:
            groups.setdefault(group, []).append(topic.name)
    return dict(sorted(groups.items()))


def lag_of(
    group: str, committed: Mapping[Place, int], beginnings: Mapping[Place, int], ends: Mapping[Place, int]
) -> list[PartitionLag]:
    """The lag of one group in every partition of `ends`.

    A group that never committed lags by all that the partition holds. Committed and end offsets are read at different
    moments, so a busy partition can seem to be ahead of its end: clamped at 0.
    """
    rows = []
    for (topic, partition), end in sorted(ends.items()):
        position = committed.get((topic, partition))
        start = beginnings.get((topic, partition), 0) if position is None else position
        rows.append(PartitionLag(group, topic, partition, position, end, max(0, end - start)))
    return rows


def _read_lag(settings: Settings) -> list[PartitionLag]:
    admin = admin_client(settings)
    groups = {settings.named(group): [settings.named(t) for t in topics] for group, topics in group_topics().items()}
    places = _partitions(admin, {topic for topics in groups.values() for topic in topics})
    with ThreadPoolExecutor(len(groups)) as threads:
        read = [
            threads.submit(_committed, settings, group, [p for p in places if p[0] in groups[group]])
            for group in groups
        ]
        committed = {group: future.result() for group, future in zip(groups, read, strict=True)}
    # Ends are read after the commits, so a commit in between cannot make a lag look smaller than it was.
    beginnings = _offsets(admin, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    rows: list[PartitionLag] = []
    for group, topics in groups.items():
        mine = {place: end for place, end in ends.items() if place[0] in topics}
        rows += lag_of(group, committed[group], beginnings, mine)
    return rows


@until_settled
def _committed(settings: Settings, group: str, places: list[Place]) -> dict[Place, int]:
    # Through a consumer that never joins: asking an AdminClient crashes the process in librdkafka when the group's
    # coordinator has only just been elected (confluent-kafka-python #1982).
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group, "log_level": QUIET}
    consumer = Consumer(config)
    try:
        found = consumer.committed([TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_SECONDS)
    finally:
        consumer.close()
    return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}


def _partitions(admin: AdminClient, topics: set[str]) -> list[Place]:
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    missing = sorted(topics - metadata.keys())
    if missing:
        raise KafkaException(f"topics do not exist: {', '.join(missing)}; `headrace setup` creates them")
    return [(topic, partition) for topic in sorted(topics) for partition in sorted(metadata[topic].partitions)]


def _offsets(admin: AdminClient, places: list[Place], spec: OffsetSpec) -> dict[Place, int]:
    wanted = {TopicPartition(topic, partition): spec for topic, partition in places}
    return {(p.topic, p.partition): offset for p, offset in list_offsets(admin, wanted).items()}
