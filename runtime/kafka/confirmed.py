"""Messages that count as sent when the broker has confirmed them: three ways to wait for that.

`send` blocks, and reports on each message. A `Publisher` waits for a broker that is down as long as it takes. A
`LivePublisher` serves many callers at once, and gives up in time to tell each of them.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import msgspec
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import ClientConfig, delivery_error, producer_config, reason, refusal
from runtime.kafka.lookup import Coordinates
from runtime.settings import Settings
from runtime.tracing import with_traces

log = structlog.get_logger()

POLL_SECONDS = 0.1

CONNECT_SECONDS = 1.0
"""A new producer waits so long for a broker; the first one that it meets takes some 50 ms."""

BY_KEY = -1
"""The partition of a message whose key decides where it goes."""

GIVE_UP_SECONDS = 2.0
"""Closing a LivePublisher waits so long for its queue; callers have had their time, so only given up ones are in it."""

Headers = Sequence[tuple[str, str | bytes | None]]


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message to publish. `topic` is physical; `partition` that of the raw record it follows from, or BY_KEY."""

    topic: str
    partition: int
    key: bytes | str | None
    value: bytes | None
    headers: Headers = ()


def patient_producer(settings: Settings, seconds: float) -> Producer:
    """A connected producer whose messages fail when the broker has not confirmed them after so long. Blocking.

    Errors reach callers through the delivery reports: librdkafka's own lines would repeat them once per connection.
    """
    timeout = {"delivery.timeout.ms": int(seconds * 1000)}
    return _connected(producer_config(settings, log_level=0, error_cb=_note, **timeout))


def _connected(config: ClientConfig) -> Producer:
    """A producer that has met a broker, or has waited CONNECT_SECONDS for one. Blocking.

    One that has not keeps its first records for half a second, until it asks again for the id of an idempotent producer
    (librdkafka 2.16).
    """
    producer = Producer(config)
    with contextlib.suppress(KafkaException):
        producer.list_topics(timeout=CONNECT_SECONDS)
    return producer


def send(producer: Producer, messages: Sequence[Outgoing]) -> list[KafkaError | Coordinates]:
    """Send messages in order; for each, why the broker does not have it, or where it has it.

    Blocks until every message has its delivery report. Once one has timed out no more are queued, and they have failed
    likewise: they would wait as long again, those that found the queue full one after the other.
    """
    reports: list[KafkaError | Coordinates | None] = [None] * len(messages)
    timed_out: list[KafkaError] = []

    def report(at: int, error: KafkaError | None, message: Message) -> None:
        # Not the message, which holds a copy of its value.
        place = cast("Coordinates", (message.topic(), message.partition(), message.offset()))
        reports[at] = delivery_error(error, message) or place
        if error is not None and error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001 (its public name)
            timed_out.append(error)

    for at, message in enumerate(messages):
        queued = False
        try:
            while not timed_out and not (queued := _queued(producer, message, partial(report, at))):
                producer.poll(POLL_SECONDS)
        except KafkaException as error:
            reports[at] = error.args[0]
        else:
            if not queued:
                reports[at] = timed_out[0]
    producer.flush()
    return [one for one in reports if one is not None]


class _Reports:
    """Counts the delivery reports of some messages; `then` is called when all have come.

    Queueing and reporting happen in different threads, and reports in several: appending is atomic, adding is not.
    """

    def __init__(self, queued: int = 0, then: Callable[[], None] | None = None) -> None:
        self.queued = queued
        self.error: str | None = None
        self._then = then
        self._reports: list[None] = []

    @property
    def outstanding(self) -> int:
        return self.queued - len(self._reports)

    def take(self, error: KafkaError | None, message: Message) -> None:
        if self.error is None and (trouble := delivery_error(error, message)) is not None:
            self.error = refusal(trouble, message)
        self._reports.append(None)
        if self._then is not None and not self.outstanding:
            self._then()


class Publisher:
    """A confirmed producer for asyncio. Connects on the first `publish`, unless `connect` was called before.

    Deliveries never time out: while the broker is down they wait, and so does the commit of what they belong to. Giving
    up would only publish the same again after a restart.
    """

    def __init__(self, settings: Settings) -> None:
        self._config = producer_config(settings, **{"delivery.timeout.ms": 0})
        self._producer: Producer | None = None
        self._closing = False

    async def connect(self) -> None:
        """Meet a broker, so that the first `publish` need not. Gives up after CONNECT_SECONDS. Idempotent."""
        await asyncio.to_thread(self._open)

    async def publish(self, messages: Iterable[Outgoing]) -> "Confirmation":
        """Queue all messages, in order; waits while the queue is full. Raises DeliveryFailed after `close`.

        Those that follow from a traced record of the batch that is worked on carry its trace.
        """
        return await asyncio.to_thread(self._queue, with_traces(messages))

    async def close(self) -> None:
        """Drop what is unconfirmed: its offsets are uncommitted, so it comes again."""
        self._closing = True
        if self._producer is not None:
            self._producer.purge()
            await asyncio.to_thread(self._producer.flush, POLL_SECONDS)

    def _open(self) -> Producer:
        self._producer = self._producer or _connected(self._config)
        return self._producer

    def _queue(self, messages: Iterable[Outgoing]) -> "Confirmation":
        reports = _Reports()
        producer, take, queued = self._open(), reports.take, 0
        for message in messages:
            while self._closing or not _queued(producer, message, take):
                self._require_open("queued")
                producer.poll(POLL_SECONDS)
            queued += 1
        reports.queued = queued
        return Confirmation(self, producer, reports)

    def _require_open(self, what: str) -> None:
        if self._closing:
            raise DeliveryFailed(f"the publisher was closed before everything was {what}")

    def serve(self, producer: Producer, reports: _Reports) -> None:
        """Wait until all deliveries are reported. Blocking. Raises DeliveryFailed."""
        while reports.outstanding:
            self._require_open("confirmed")
            # Flushing sends at once instead of lingering for more; it returns early once the queue is empty.
            producer.flush(POLL_SECONDS)
        if reports.error is not None:
            raise DeliveryFailed(f"the broker refused a record: {reports.error}")


@dataclass(frozen=True)
class Confirmation:
    """Ends when the broker has confirmed every message of one `publish`. Raises DeliveryFailed otherwise."""

    publisher: Publisher
    producer: Producer
    reports: _Reports

    async def confirmed(self) -> None:
        """Wait for the broker; however long it is down."""
        if self.reports.outstanding or self.reports.error:
            await asyncio.to_thread(self.publisher.serve, self.producer, self.reports)


class LivePublisher:
    """One producer for all callers on an event loop. Connects when something is published for the first time.

    A message is given up `timeout_seconds` after it was queued: it is not sent behind the back of a caller who was told
    that it failed. (One that was on its way may have arrived: sent again, it is there twice, and the later one counts.)
    """

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._settings = settings
        self._producer: Producer | None = None
        self._poller: threading.Thread | None = None
        self._closing = threading.Event()
        self._opening = asyncio.Lock()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish, and wait until the broker has confirmed every message.

        Raises DeliveryFailed if it does not confirm all: some may have been written.
        """
        if not messages:
            return
        loop = asyncio.get_running_loop()
        all_reported = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(all_reported.set)

        reports = _Reports(len(messages), tell)
        producer = await self._open()
        try:
            for message in messages:
                if not _queued(producer, message, reports.take):
                    raise DeliveryFailed("too many records are waiting for Kafka")
        except KafkaException as error:
            self._give_up(producer)
            raise DeliveryFailed(f"Kafka refused a record: {reason(error)}") from error
        await all_reported.wait()
        if (trouble := reports.error) is not None:
            raise DeliveryFailed(f"Kafka at {self._settings.kafka_bootstrap_servers} did not confirm: {trouble}")

    async def close(self) -> None:
        """Wait a moment for what is queued, and stop."""
        if self._producer is not None:
            left = await asyncio.to_thread(self._producer.flush, GIVE_UP_SECONDS)
            if left:
                log.warning("webhook_records_given_up", records=left)
        self._closing.set()
        if self._poller is not None:
            await asyncio.to_thread(self._poller.join)

    async def _open(self) -> Producer:
        async with self._opening:
            if self._producer is None:
                self._producer = await asyncio.to_thread(patient_producer, self._settings, self.timeout_seconds)
            if self._poller is None:
                self._poller = threading.Thread(target=self._poll, name="live-publisher", daemon=True)
                self._poller.start()
            return self._producer

    def _give_up(self, producer: Producer) -> None:
        """Forget a producer that has had a fatal error; its reports still come."""
        producer.flush(0)
        if self._producer is producer:
            self._producer = None

    def _poll(self) -> None:
        while not self._closing.is_set():
            producer = self._producer
            if producer is None:
                self._closing.wait(POLL_SECONDS)
            else:
                producer.poll(POLL_SECONDS)


def _queued(producer: Producer, message: Outgoing, on_delivery: Any) -> bool:
    """Hand a message to the producer; False while its queue is full. Raises KafkaException."""
    try:
        producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            on_delivery,
            headers=list(message.headers) if message.headers else None,
        )
    except BufferError:
        return False
    return True


def _note(error: KafkaError) -> None:
    log.debug("kafka_client_error", error=error.str())
