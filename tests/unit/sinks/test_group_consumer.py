"""What a consumer takes for a batch, and what it keeps for the next one."""

import itertools
import time
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from runtime.settings import Settings
from sinks.group_consumer import BUSY_RECORDS_PER_SECOND, GroupConsumer


class Waiting:
    """A message of some partition and size."""

    def __init__(self, partition: int = 0, size: int = 100) -> None:
        self._partition = partition
        self._size = size

    def __len__(self) -> int:
        return self._size

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return 0


def message(partition: int) -> Any:
    return Waiting(partition)


class Queue:
    """What has come from the broker, in place of librdkafka's queue; remembers how long it was asked to wait."""

    def __init__(self, *waiting: Waiting) -> None:
        self.waiting = list(waiting)
        self.waits: list[float] = []

    def consume(self, count: int, seconds: float) -> list[Any]:
        self.waits.append(seconds)
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken


def consumer_of(queue: Queue, monkeypatch: pytest.MonkeyPatch, patience_ms: int = 0, **settings: int) -> GroupConsumer:
    consumer = GroupConsumer(Settings(**cast("Any", settings)), "group", ["t"], patience_ms=patience_ms)
    monkeypatch.setattr(consumer, "_consume", queue.consume)
    return consumer


def test_what_comes_alone_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(Waiting(), Waiting())
    consumer = consumer_of(queue, monkeypatch)
    assert len(consumer.poll(seconds=0.5).messages) == 2
    assert queue.waits[0] > 0, "it waits for the first"
    assert set(queue.waits[1:]) == {0.0}, "and not for more"
    assert not consumer.backlog


def test_more_is_waited_for_while_records_come_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(Waiting())
    consumer = consumer_of(queue, monkeypatch, sink_batch_wait_ms=20)
    consumer._rate, consumer._rated_at = 2.0 * BUSY_RECORDS_PER_SECOND, time.monotonic()
    consumer.poll()
    assert 0 < max(queue.waits[1:]) <= 0.02


def test_a_patient_consumer_waits_for_more_however_slowly_records_come(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(Waiting())
    consumer = consumer_of(queue, monkeypatch, patience_ms=20)
    consumer.poll()
    assert 0.01 < max(queue.waits[1:]) <= 0.02


def test_a_batch_under_backlog_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = consumer_of(Queue(*[Waiting()] * 25), monkeypatch, sink_batch_records=10)
    assert [(len(consumer.poll().messages), consumer.backlog) for _ in range(3)] == [(10, True), (10, True), (5, False)]


@pytest.mark.parametrize("sizes", [[1_000], [0], [400, 600]])
def test_a_batch_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    waiting = [Waiting(size=size) for size in itertools.islice(itertools.cycle(sizes), 1_000)]
    consumer = consumer_of(Queue(*waiting), monkeypatch, sink_batch_records=1_000, sink_batch_bytes=10_000)
    seen = 0
    while messages := consumer.poll().messages:
        size = sum(map(len, messages))
        assert size < 15_000, (
            "not much more than the bound, as the first records of a batch tell the size of the others"
        )
        assert consumer.backlog == (size >= 10_000 or len(messages) == 1_000)
        seen += len(messages)
    assert seen == 1_000


def test_messages_of_a_partition_that_is_lost_in_a_poll_are_not_carried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = GroupConsumer(Settings(), "group", ["t"])
    consumer._carried = [kept := message(0), message(1)]
    came = message(0)

    def consume(count: int, seconds: float) -> list[Any]:
        consumer._on_lost(cast("Any", consumer._consumer), [TopicPartition("t", 1)])
        return [came]

    monkeypatch.setattr(consumer, "_consume", consume)
    consumer.take_answers()
    assert consumer._carried == [kept, came]
