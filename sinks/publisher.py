"""Publishes what a sink has to say, and knows when the broker has confirmed it."""

import asyncio
from collections.abc import Iterable

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error, producer_config
from runtime.settings import Settings

POLL_SECONDS = 0.1

BY_KEY = -1
"""The partition of a message whose key decides where it goes."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message to publish. `topic` is physical; `partition` that of the raw record it follows from, or BY_KEY."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class _Deliveries:
    """Counts the delivery reports of one call of `publish`.

    Queueing and reporting happen in different threads, and reports in several: appending is atomic, adding is not.
    """

    def __init__(self) -> None:
        self.queued = 0
        self.error: KafkaError | None = None
        self._reports: list[None] = []

    @property
    def outstanding(self) -> int:
        return self.queued - len(self._reports)

    def report(self, error: KafkaError | None, message: Message) -> None:
        self.error = self.error or delivery_error(error, message)
        self._reports.append(None)


class Publisher:
    """A confirmed producer for asyncio. Connects on the first `publish`.

    Deliveries never time out: while the broker is down they wait, and so does the commit of what they belong to. Giving
    up would only publish the same again after a restart.
    """

    def __init__(self, settings: Settings) -> None:
        self._config = producer_config(settings, **{"delivery.timeout.ms": 0})
        self._producer: Producer | None = None
        self._closing = False

    async def publish(self, messages: Iterable[Outgoing]) -> "Confirmation":
        """Queue all messages, in order; waits while the queue is full. Raises DeliveryFailed after `close`."""
        return await asyncio.to_thread(self._queue, messages)

    async def close(self) -> None:
        """Drop what is unconfirmed: its offsets are uncommitted, so it comes again."""
        self._closing = True
        if self._producer is not None:
            self._producer.purge()
            await asyncio.to_thread(self._producer.flush, POLL_SECONDS)

    def _queue(self, messages: Iterable[Outgoing]) -> "Confirmation":
        if self._producer is None:
            self._producer = Producer(self._config)
        deliveries = _Deliveries()
        for message in messages:
            self._produce(self._producer, message, deliveries)
        return Confirmation(self, self._producer, deliveries)

    def _produce(self, producer: Producer, message: Outgoing, deliveries: _Deliveries) -> None:
        while True:
            if self._closing:
                raise DeliveryFailed("the publisher was closed before everything was queued")
            try:
                producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    partition=message.partition,
                    on_delivery=deliveries.report,
                )
            except BufferError:
                producer.poll(POLL_SECONDS)
            else:
                deliveries.queued += 1
                return

    def serve(self, producer: Producer, deliveries: _Deliveries) -> None:
        """Wait until all deliveries are reported. Blocking. Raises DeliveryFailed."""
        while deliveries.outstanding:
            if self._closing:
                raise DeliveryFailed("the publisher was closed before everything was confirmed")
            # Flushing sends at once instead of lingering for more; it returns early once the queue is empty.
            producer.flush(POLL_SECONDS)
        if deliveries.error is not None:
            raise DeliveryFailed(f"the broker refused a record: {deliveries.error.str()}")


class Confirmation:
    """Ends when the broker has confirmed every message of one `publish`. Raises DeliveryFailed otherwise."""

    def __init__(self, publisher: Publisher, producer: Producer, deliveries: _Deliveries) -> None:
        self._publisher = publisher
        self._producer = producer
        self._deliveries = deliveries

    async def confirmed(self) -> None:
        """Wait for the broker; however long it is down."""
        if self._deliveries.outstanding or self._deliveries.error:
            await asyncio.to_thread(self._publisher.serve, self._producer, self._deliveries)
