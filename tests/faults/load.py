"""Publishes a workload while a fault test does its worst."""

import random
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from schemas.registry import dataset_named
from tests.faults.workload import Sent, Workload

PATIENCE_MS = 600_000
"""The producer waits so long for a broker that is away before it gives a record up."""

FLUSH_SECONDS = 300.0

ABORTED_SHARE = 1 / 3


class Load:
    """A producer in a thread of its own. `published` counts the records that the broker has confirmed.

    It ends with a workload's closing records, also when it is stopped. With `transactions` a second producer writes a
    few of the records in transactions, and aborts a third of these.
    """

    def __init__(
        self, settings: Settings, records: Iterable[Sent], per_second: float, *, transactions: bool = False
    ) -> None:
        self._records = iter(records)
        self._closing = records.closing if isinstance(records, Workload) else list[Sent]
        self._transactions = transactions
        self._settings = settings
        self._chance = random.Random(1)
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
        """True while there is more to come."""
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
        try:
            self._publish_all()
        except KafkaException as error:
            self.errors.append(str(error))

    def _publish_all(self) -> None:
        began = time.monotonic()
        foreign = self._foreign_producer() if self._transactions else None
        for number, sent in enumerate(self._records):
            if self._stopping.is_set():
                break
            self._produce(sent)
            if number % 100 == 0:
                early = began + number / self._per_second - time.monotonic()
                self._stopping.wait(max(early, 0))
                if foreign is not None:
                    self._transact(foreign, list(islice(self._records, self._chance.randrange(1, 5))))
        for sent in self._closing():
            self._produce(sent)
        left = self._producer.flush(FLUSH_SECONDS)
        if left:
            self.errors.append(f"{left} records are not confirmed after {FLUSH_SECONDS:.0f} s")

    def _foreign_producer(self) -> Producer:
        patience = {"delivery.timeout.ms": PATIENCE_MS, "transaction.timeout.ms": PATIENCE_MS}
        config = producer_config(self._settings, **{"transactional.id": uuid.uuid4().hex, **patience, "linger.ms": 0})
        producer = Producer(config)
        producer.init_transactions(FLUSH_SECONDS)
        return producer

    def _transact(self, producer: Producer, records: list[Sent]) -> None:
        producer.begin_transaction()
        for sent in records:
            producer.produce(self._topic, sent.value, sent.key)
        producer.flush(FLUSH_SECONDS)
        if self._chance.random() < ABORTED_SHARE:
            producer.abort_transaction(FLUSH_SECONDS)
        else:
            producer.commit_transaction(FLUSH_SECONDS)
            self.published += len(records)

    def _produce(self, sent: Sent) -> None:
        while True:
            try:
                self._producer.produce(self._topic, sent.value, sent.key, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:  # noqa: ARG002 (as librdkafka calls it)
        if error is None:
            self.published += 1
        else:
            self.errors.append(error.str())


@contextmanager
def load(
    settings: Settings, records: Iterable[Sent], per_second: float, *, transactions: bool = False
) -> Iterator[Load]:
    """Publish while the block runs, and no longer than that if it fails."""
    running = Load(settings, records, per_second, transactions=transactions)
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
