"""Topics and groups of a test's own, beside those of a pipeline."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from runtime.kafka.clients import QUIET, producer_config
from runtime.settings import Settings
from tests.waiting import eventually


@contextmanager
def topics(settings: Settings, *partitions: int, **config: str) -> Iterator[list[str]]:
    """New topics, each with so many partitions."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    names = {f"{settings.namespace}.{uuid.uuid4().hex[:8]}": count for count in partitions}
    new = [NewTopic(name, count, 1, config=config) for name, count in names.items()]
    for created in admin.create_topics(new).values():
        created.result()

    def known() -> bool:
        there = admin.list_topics(timeout=10).topics
        return all(name in there and len(there[name].partitions) == count for name, count in names.items())

    eventually(known, what="the broker knows the topics")
    try:
        yield list(names)
    finally:
        for deleted in admin.delete_topics(list(names)).values():
            deleted.exception()


def produce(settings: Settings, topic: str, partition: int, count: int, timestamp: int = 0) -> None:
    """Write so many records, in as few batches as it takes. `timestamp` in ms since the epoch; 0: now."""
    producer = Producer(producer_config(settings, **{"linger.ms": 100}))
    for number in range(count):
        producer.produce(topic, value=f"{number}".encode(), partition=partition, timestamp=timestamp)
    assert producer.flush(30) == 0


def commit(settings: Settings, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Commit these offsets as a client does that is no member."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group, "log_level": QUIET})
    try:
        wanted = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        eventually(lambda: consumer.commit(offsets=wanted, asynchronous=False), what="the offsets are committed")
    finally:
        consumer.close()


def readable(settings: Settings, topic: str, partition: int, position: int, end: int) -> int:
    """Records that a consumer gets from a position on up to the end, reading committed."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "reads-only", "log_level": QUIET,
            "enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": "read_committed",
        }
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, partition, position)])
    found = 0
    try:
        while (message := consumer.poll(30)) is not None:
            if message.error() is not None:
                break  # the end of the partition
            found += (message.offset() or 0) < end
    finally:
        consumer.close()
    return found
