"""Foreign producers that write in transactions."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from runtime.kafka.clients import producer_config
from runtime.settings import Settings

TIMEOUT_MS = 300_000
"""After which the broker aborts a transaction by itself: longer than any test."""

Records = Iterable[tuple[bytes, bytes | None]]
"""Keys and values."""


def transactional_producer(settings: Settings) -> Producer:
    """A producer that is ready to begin a transaction."""
    name = f"foreign-{uuid.uuid4().hex[:10]}"
    producer = Producer(
        producer_config(settings, **{"transactional.id": name, "transaction.timeout.ms": TIMEOUT_MS, "linger.ms": 0})
    )
    producer.init_transactions(30)
    return producer


def write(producer: Producer, topic: str, records: Records, partition: int = 0) -> None:
    """Write within the transaction that the producer has begun, and wait until the broker has it. `topic`: physical."""
    for key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(30) == 0


def committed(producer: Producer, topic: str, records: Records, partition: int = 0) -> None:
    """Write records in one transaction that is committed: a marker follows them."""
    producer.begin_transaction()
    write(producer, topic, records, partition)
    producer.commit_transaction(30)


def aborted(producer: Producer, topic: str, records: Records, partition: int = 0) -> None:
    """Write records in one transaction that is aborted: nobody is to see them."""
    producer.begin_transaction()
    write(producer, topic, records, partition)
    producer.abort_transaction(30)


@contextmanager
def hung(settings: Settings, topic: str, records: Records, partition: int = 0) -> Iterator[Producer]:
    """A producer that has written in a transaction and does not end it, until it is aborted here at last."""
    producer = transactional_producer(settings)
    producer.begin_transaction()
    write(producer, topic, records, partition)
    try:
        yield producer
    finally:
        producer.abort_transaction(30)
