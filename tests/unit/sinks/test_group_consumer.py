"""Messages that a consumer keeps for the next batch."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from runtime.settings import Settings
from sinks.group_consumer import GroupConsumer


def message(partition: int) -> Any:
    return SimpleNamespace(topic=lambda: "t", partition=lambda: partition, offset=lambda: 0)


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
