"""Creates the pipeline's topics, reads their ends and what groups have committed, and notices recreated ones.

Blocking, but for `watch_topics`; call it from a thread in async code.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from runtime.kafka.clients import MAX_MESSAGE_BYTES, connection_config
from runtime.settings import Settings
from schemas.topics import Topic, all_topics

Place = tuple[str, int]
"""A physical topic and a partition."""

T = TypeVar("T")

REQUEST_TIMEOUT_SECONDS = 10.0
LOOK_TIMEOUT_SECONDS = 4.0
"""Limit of requests that running workers and sinks repeat: they must be able to stop in between."""

WATCH_SECONDS = 5.0

HOUR_MS = 3_600_000


def _is_settling(error: BaseException) -> bool:
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return isinstance(cause, KafkaError) and (cause.code() in SETTLING or cause.retriable())


SETTLING = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._NOENT,  # noqa: SLF001 (librdkafka's own code for a topic whose leaders it has not heard of)
}
"""A broker's answers for a moment after a topic was created, a group first heard of, or a leader elected."""

until_settled = retry(
    retry=retry_if_exception(_is_settling),
    wait=wait_random_exponential(multiplier=0.1, max=1.0),
    stop=stop_after_delay(REQUEST_TIMEOUT_SECONDS),
    reraise=True,
)
"""Decorates a read that is repeated while the broker is settling. Blocking."""


def admin_client(settings: Settings) -> AdminClient:
    """An admin client; connects on first use."""
    return AdminClient(connection_config(settings))


class LastingAdmin:
    """An admin client for a process that lives on. Connects on first use; any thread may ask.

    One that has failed is replaced. A broker that is fenced for a moment lists no brokers at all, and librdkafka (2.16,
    its issue 5301) may then have none left to ask, for good.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AdminClient | None = None

    def ask(self, question: Callable[[AdminClient], T]) -> T:
        """Answer of the question. Blocking as long as the question is. Raises KafkaException."""
        client = self._client = self._client or admin_client(self._settings)
        try:
            return question(client)
        except KafkaException:
            self._client = None
            raise


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that do not exist yet; returns their physical names. Idempotent, safe to run in parallel.

    Existing ones get partitions up to TOPIC_PARTITIONS (none is ever taken away), all the same number: stages write to
    the partition that they read from. Raises KafkaException when the broker refuses or cannot be reached.
    """
    admin = admin_client(settings)  # kept until the answers are in: its end would cancel them
    existing = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    missing = [_new_topic(topic, settings) for topic in all_topics() if settings.named(topic.name) not in existing]
    futures = admin.create_topics(missing, request_timeout=REQUEST_TIMEOUT_SECONDS) if missing else {}
    created = []
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _add_partitions(admin, settings)
    return sorted(created)


def set_configuration(settings: Settings) -> dict[str, dict[str, str]]:
    """Give topics that are there the configuration that they are declared with, and the retention that is set now.

    Whoever made them, or has changed them since. A larger `max.message.bytes` stays. Returns what was changed, by
    physical name. Idempotent. Raises KafkaException when the broker refuses or cannot be reached.
    """
    admin = admin_client(settings)
    existing = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    wanted = {
        name: topic_config(topic) | retention(topic, settings)
        for topic in all_topics()
        if (name := settings.named(topic.name)) in existing
    }
    if not wanted:
        return {}
    kind = ConfigResource.Type.TOPIC
    resources = [ConfigResource(kind, name) for name in wanted]
    answers = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_SECONDS)
    known = {resource.name: answer.result() for resource, answer in answers.items()}
    changed = {
        name: odd
        for name, config in wanted.items()
        if (odd := {one: value for one, value in config.items() if not _suits(one, known[name][one].value, value)})
    }
    changes = [
        ConfigResource(
            kind,
            name,
            incremental_configs=[
                ConfigEntry(*one, incremental_operation=AlterConfigOpType.SET) for one in changed[name].items()
            ],
        )
        for name in changed
    ]
    if changes:
        for change in admin.incremental_alter_configs(changes, request_timeout=REQUEST_TIMEOUT_SECONDS).values():
            change.result()
    return changed


def _suits(setting: str, there: str, wanted: str) -> bool:
    return there == wanted or (setting == "max.message.bytes" and int(there) > int(wanted))


def _add_partitions(admin: AdminClient, settings: Settings) -> None:
    existing = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    names = [settings.named(topic.name) for topic in all_topics()]
    counts = {name: len(existing[name].partitions) for name in names if name in existing}
    wanted = max([settings.topic_partitions, *counts.values()])
    # Raw topics last: no record may come in a partition that the topics behind have not.
    short = sorted((name for name, count in counts.items() if count < wanted), key=lambda name: name.endswith(".raw"))
    for name in short:
        more = admin.create_partitions([NewPartitions(name, wanted)], request_timeout=REQUEST_TIMEOUT_SECONDS)
        try:
            more[name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.INVALID_PARTITIONS:  # another process was first
                raise
    if short:
        from runtime.kafka.group_members import end_memberships  # here, since aiokafka takes long to load

        end_memberships(settings)


def partition_counts(settings: Settings) -> dict[str, int]:
    """The number of partitions of each topic, by physical name. Raises KafkaException if the broker is out of reach."""
    topics = admin_client(settings).list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    return {name: len(topic.partitions) for name, topic in topics.items()}


def end_offsets(settings: Settings, topics: list[str]) -> dict[TopicPartition, int]:
    """The last stable offset of every partition of those physical topics; missing topics are left out.

    That is the next to be written, or, before it, the first record of a transaction that is open: nobody who reads
    committed can be further. Offsets are no count of records: the markers of transactions have some too.
    """
    admin = admin_client(settings)
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    wanted = {
        TopicPartition(name, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for name in topics
        if name in metadata
        for partition in metadata[name].partitions
    }
    return list_offsets(admin, wanted)


@until_settled
def list_offsets(
    admin: AdminClient,
    wanted: dict[TopicPartition, OffsetSpec],
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> dict[TopicPartition, int]:
    """The wanted offset of each partition. Raises KafkaException.

    The latest is the last stable offset; with READ_UNCOMMITTED it is the high watermark, which no reader of ours
    reaches while a transaction is open.
    """
    if not wanted:
        return {}
    futures = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=REQUEST_TIMEOUT_SECONDS)
    return {partition: future.result().offset for partition, future in futures.items()}


@until_settled
def committed_offsets(settings: Settings, group: str, places: Sequence[Place]) -> dict[Place, int]:
    """The next offset that the group (by its physical name) will read in each of these partitions.

    Those without a commit are left out. Raises KafkaException.
    """
    # Through a consumer that never joins: asking an AdminClient crashes the process in librdkafka when the group's
    # coordinator has only just been elected (confluent-kafka-python #1982).
    consumer = Consumer({**connection_config(settings), "group.id": group})
    try:
        found = consumer.committed([TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_SECONDS)
    finally:
        consumer.close()
    return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}


@dataclass(frozen=True)
class Incarnation:
    """A topic as it is now. A topic that is deleted and made again has another id.

    `first_at` is the time of its earliest record, in ms since the epoch, 0 if it is older; None while it is empty.
    """

    topic_id: str
    first_at: int | None


@until_settled
def incarnations(settings: Settings, topics: Sequence[str]) -> dict[str, Incarnation]:
    """The incarnation of each of these physical topics that exists. Raises KafkaException."""
    admin = admin_client(settings)
    metadata = admin.list_topics(timeout=LOOK_TIMEOUT_SECONDS).topics
    existing = [name for name in topics if name in metadata]
    if not existing:
        return {}
    ids = topic_ids(admin, existing)
    since_ever = {
        TopicPartition(name, partition): OffsetSpec.for_timestamp(0)
        for name in existing
        for partition in metadata[name].partitions
    }
    first: dict[str, int] = {}
    silent = []
    for place, future in admin.list_offsets(since_ever, request_timeout=LOOK_TIMEOUT_SECONDS).items():
        found = future.result()
        if found.offset >= 0:
            first[place.topic] = min(found.timestamp, first.get(place.topic, found.timestamp))
        else:
            silent.append(place)
    # Empty, or producers have given its records no time.
    ends = list_offsets(admin, {place: OffsetSpec.latest() for place in silent})  # type: ignore[no-untyped-call]
    begins = list_offsets(admin, {place: OffsetSpec.earliest() for place in silent})  # type: ignore[no-untyped-call]
    first |= {place.topic: 0 for place in silent if ends[place] > begins[place]}
    return {name: Incarnation(ids[name], first.get(name)) for name in existing}


def topic_ids(admin: AdminClient, topics: Sequence[str]) -> dict[str, str]:
    """The broker's id of each of these physical topics. Raises KafkaException, also for one that does not exist."""
    described = admin.describe_topics(TopicCollection(list(topics)), request_timeout=LOOK_TIMEOUT_SECONDS)
    return {name: str(description.result().topic_id) for name, description in described.items()}


class TopicRecreated(Exception):
    """A topic was deleted and made again: the process must start again, and read it from its first record on.

    It would go on at its old position, behind new records. Before it ends it is to `start_over` in its group.
    """

    def __init__(self, topics: Sequence[str]) -> None:
        super().__init__(f"{', '.join(topics)}: deleted and recreated; starting again from the first record")
        self.topics = topics


async def watch_topics(
    settings: Settings, topics: Sequence[str], rewind: Callable[[Collection[str]], Awaitable[None]]
) -> None:
    """Look at these physical topics every few seconds, for ever. A broker that is away is for others to tell.

    `rewind` is to commit the first offset of the partitions of those that it is given: a rebalance may have committed
    the old position for the new topic. Raises TopicRecreated then.
    """
    admin = LastingAdmin(settings)
    known: dict[str, str] = {}
    while True:
        now: dict[str, str] = {}
        with contextlib.suppress(KafkaException):
            now = await asyncio.to_thread(admin.ask, lambda client: _ids_of_existing(client, topics))
        if recreated := sorted(name for name in now if known.get(name, now[name]) != now[name]):
            await rewind(recreated)
            raise TopicRecreated(recreated)
        known |= now  # one that is away may come back as another
        await asyncio.sleep(WATCH_SECONDS)


def _ids_of_existing(admin: AdminClient, topics: Sequence[str]) -> dict[str, str]:
    there = admin.list_topics(timeout=LOOK_TIMEOUT_SECONDS).topics
    existing = [name for name in topics if name in there]
    return topic_ids(admin, existing) if existing else {}


def retention_hours(topic: Topic, settings: Settings) -> int:
    """So long a topic keeps its messages. Pure."""
    own: int | None = getattr(settings, f"{topic.kind}_retention_hours")
    return own or topic.retention * settings.topic_retention_hours


def retention(topic: Topic, settings: Settings) -> dict[str, str]:
    """The broker's settings for that. It deletes whole segments, so one is ended after a day at the latest. Pure."""
    hours = retention_hours(topic, settings)
    return {"retention.ms": str(hours * HOUR_MS), "segment.ms": str(min(hours, 24) * HOUR_MS)}


def _new_topic(topic: Topic, settings: Settings) -> NewTopic:
    return NewTopic(
        settings.named(topic.name),
        num_partitions=settings.topic_partitions,
        replication_factor=settings.topic_replication,
        config={
            **topic_config(topic),
            **retention(topic, settings),
            "min.insync.replicas": str(max(1, settings.topic_replication - 1)),
        },
    )


def topic_config(topic: Topic) -> dict[str, str]:
    """The part of a topic's configuration that no setting changes. Pure."""
    return {
        "cleanup.policy": topic.cleanup_policy,
        "message.timestamp.type": "LogAppendTime" if topic.log_append_time else "CreateTime",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
