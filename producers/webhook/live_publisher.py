"""Publishes a few records at a time while a process goes on, with one idempotent producer for all."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.raw_headers import Header
from producers.raw_topic import require_topic
from producers.source import SourceRecord
from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error, producer_config, reason
from runtime.settings import Settings

log = structlog.get_logger()

POLL_SECONDS = 0.1
TOPIC_SECONDS = 5.0
GIVE_UP_SECONDS = 2.0
"""How long closing waits for what is queued: requests have had their time before, so only given up ones are."""


class LivePublisher:
    """For one event loop. Connects when something is published for the first time.

    A record is given up `timeout_seconds` after it was queued: it is not sent behind the back of a caller who was told
    that it failed. (One that was on its way may have arrived: sent again, it is there twice, and the later one counts.)
    """

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._producer: Producer | None = None
        self._poller: threading.Thread | None = None
        self._closing = threading.Event()
        self._topics: set[str] = set()

    async def publish(self, topic: str, records: Sequence[tuple[SourceRecord, list[Header]]]) -> None:
        """Publish to a physical topic and wait until the broker has confirmed every record.

        Raises DeliveryFailed if it does not confirm all: some may have been written.
        """
        if topic not in self._topics:
            await asyncio.to_thread(require_topic, self._settings, topic, min(TOPIC_SECONDS, self._timeout_seconds))
            self._topics.add(topic)
        if not records:
            return
        loop = asyncio.get_running_loop()
        all_reported: asyncio.Future[KafkaError | None] = loop.create_future()
        reports = _Reports(len(records), loop, all_reported)
        producer = self._connected()
        try:
            for record, headers in records:
                producer.produce(
                    topic, record.value, record.key, headers=[*record.headers, *headers], on_delivery=reports.take
                )
        except BufferError:
            raise DeliveryFailed("too many records are waiting for Kafka") from None
        except KafkaException as error:
            self._give_up(producer)
            raise DeliveryFailed(f"Kafka refused a record: {reason(error)}") from error
        trouble = await all_reported
        if trouble is not None:
            raise DeliveryFailed(f"Kafka at {self._settings.kafka_bootstrap_servers} did not confirm: {trouble.str()}")

    async def close(self) -> None:
        """Wait a moment for what is queued, and stop."""
        if self._producer is not None:
            left = await asyncio.to_thread(self._producer.flush, GIVE_UP_SECONDS)
            if left:
                log.warning("webhook_records_given_up", records=left)
        self._closing.set()
        if self._poller is not None:
            await asyncio.to_thread(self._poller.join)

    def _connected(self) -> Producer:
        if self._producer is None:
            timeout = {"delivery.timeout.ms": int(self._timeout_seconds * 1000)}
            self._producer = Producer(producer_config(self._settings, log_level=0, error_cb=_note, **timeout))
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


class _Reports:
    """Counts the delivery reports of one call; tells its event loop when all have come."""

    def __init__(self, wanted: int, loop: asyncio.AbstractEventLoop, done: "asyncio.Future[KafkaError | None]") -> None:
        self._left = wanted
        self._loop = loop
        self._done = done
        self._trouble: KafkaError | None = None

    def take(self, error: KafkaError | None, message: Message) -> None:
        """A delivery report. Called in the thread that polls."""
        self._trouble = self._trouble or delivery_error(error, message)
        self._left -= 1
        if not self._left:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self._done.done():
            self._done.set_result(self._trouble)


def _note(error: KafkaError) -> None:
    log.debug("kafka_client_error", error=error.str())
