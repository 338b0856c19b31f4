"""Publishes a workload while a fault test does its worst."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, Message, Producer

from runtime.kafka_clients import producer_config
from runtime.settings import Settings
from schemas.registry import dataset_named
from tests.faults.workload import Sent

PATIENCE_MS = 600_000
"""How long the producer waits for a broker that is away, before it would give a record up."""

FLUSH_SECONDS = 300.0


class Load:
    """A producer in a thread of its own. `published` counts the records that the broker has confirmed."""

    def __init__(self, settings: Settings, records: Iterable[Sent], per_second: float) -> None:
        self._records = records
        self._per_second = per_second
        self._topic = settings.named(dataset_named("customers").raw_topic)
        self._producer = Producer(producer_config(settings, **{"delivery.timeout.ms": PATIENCE_MS}))
        self._thread = threading.Thread(target=self._publish, name="load")
        self._stopping = threading.Event()
        self.published = 0
        self.errors: list[str] = []

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def is_running(self) -> bool:
        """Whether there is more to come."""
        return self._thread.is_alive()

    def finish(self) -> int:
        """Block until everything is confirmed; how many records that is. Fails the test if one was not."""
        self._thread.join()
        assert not self.errors, self.errors[:3]
        return self.published

    def stop(self) -> int:
        """Publish nothing more, then `finish`."""
        self._stopping.set()
        return self.finish()

    def _publish(self) -> None:
        began = time.monotonic()
        for number, sent in enumerate(self._records):
            if self._stopping.is_set():
                break
            while not self._produce(sent):
                self._producer.poll(0.1)
            self._producer.poll(0)
            if number % 100 == 0:
                early = began + number / self._per_second - time.monotonic()
                self._stopping.wait(max(early, 0))
        left = self._producer.flush(FLUSH_SECONDS)
        if left:
            self.errors.append(f"{left} records are not confirmed after {FLUSH_SECONDS:.0f} s")

    def _produce(self, sent: Sent) -> bool:
        try:
            self._producer.produce(self._topic, sent.value, sent.key, on_delivery=self._delivered)
        except BufferError:
            return False
        return True

    def _delivered(self, error: KafkaError | None, message: Message) -> None:  # noqa: ARG002 (as librdkafka calls it)
        if error is None:
            self.published += 1
        else:
            self.errors.append(error.str())


@contextmanager
def load(settings: Settings, records: Iterable[Sent], per_second: float) -> Iterator[Load]:
    """Publish while the block runs, and no longer than that if it fails."""
    running = Load(settings, records, per_second)
    running.start()
    try:
        yield running
    except BaseException:
        running._stopping.set()
        raise
    finally:
        if running.is_running():
            running._stopping.set()
            running._thread.join()
