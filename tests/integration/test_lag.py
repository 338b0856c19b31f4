"""Lag, against a real broker."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from local_stack.state_folder import StateFolder
from monitoring.lag import PartitionLag, group_topics, read_lag
from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from services.watchdog import Watchdog
from tests.transactions import committed, hung, transactional_producer
from tests.waiting import eventually, eventually_async


def produce(settings: Settings, topic: str, partition: int, count: int) -> None:
    producer = Producer(producer_config(settings))
    for number in range(count):
        producer.produce(topic, value=str(number).encode(), partition=partition)
    assert producer.flush(20) == 0


def commit(settings: Settings, group: str, topic: str, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    consumer.close()


def of(settings: Settings, topic: str, partition: int) -> PartitionLag:
    """The normalizer's row."""
    rows = asyncio.run(read_lag(settings))
    wanted = (settings.named("normalizer"), topic, partition)
    (row,) = [row for row in rows if (row.group, row.topic, row.partition) == wanted]
    return row


def test_a_group_that_never_committed_lags_by_every_record_there_is(pipeline_settings: Settings) -> None:
    topic = pipeline_settings.named("customers.raw")
    produce(pipeline_settings, topic, 1, 7)
    rows = asyncio.run(read_lag(pipeline_settings))
    mine = {
        row.partition: row for row in rows if (row.group, row.topic) == (pipeline_settings.named("normalizer"), topic)
    }
    assert sorted(mine) == list(range(pipeline_settings.topic_partitions))
    assert (mine[1].committed, mine[1].end, mine[1].lag) == (None, 7, 7)
    assert mine[0].lag == 0


def test_lag_counts_from_the_committed_offset(pipeline_settings: Settings) -> None:
    topic, group = pipeline_settings.named("customers.raw"), pipeline_settings.named("normalizer")
    produce(pipeline_settings, topic, 2, 10)
    commit(pipeline_settings, group, topic, 2, 4)
    rows = asyncio.run(read_lag(pipeline_settings))
    row = next(row for row in rows if (row.group, row.topic, row.partition) == (group, topic, 2))
    assert (row.committed, row.end, row.lag) == (4, 10, 6)


def test_every_group_of_the_registry_is_reported(pipeline_settings: Settings) -> None:
    rows = asyncio.run(read_lag(pipeline_settings))
    assert {row.group for row in rows} == {pipeline_settings.named(group) for group in group_topics(pipeline_settings)}


def test_records_that_an_open_transaction_holds_are_reported_and_are_not_lag(pipeline_settings: Settings) -> None:
    topic = pipeline_settings.named("customers.raw")
    committed(transactional_producer(pipeline_settings), topic, [(b"a", b"1"), (b"b", b"2")])
    with hung(pipeline_settings, topic, [(b"c", b"3")]):
        produce(pipeline_settings, topic, 0, 4)  # somebody else's ordinary records wait behind it
        row = of(pipeline_settings, topic, 0)
        assert (row.end, row.lag, row.held) == (3, 3, 5)
        assert row.held_seconds is not None
        assert 0 <= row.held_seconds < 60
        assert end_offsets(pipeline_settings, [topic])[TopicPartition(topic, 0)] == 3
        begun = row.held_seconds
        eventually(
            lambda: (of(pipeline_settings, topic, 0).held_seconds or 0) > begun,
            what="it goes on counting from the same moment",
        )
    row = of(pipeline_settings, topic, 0)
    assert row.written == 9
    assert (row.end, row.lag, row.held, row.held_seconds) == (9, 9, 0, None), "two markers have offsets too"


async def test_the_watchdog_takes_a_hung_producer_for_no_stall(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalls: list[object] = []

    async def note(_: Watchdog, group: str, found: list[object]) -> None:
        stalls.extend([group, *found])

    monkeypatch.setattr(Watchdog, "_help", note)
    topic = pipeline_settings.named("customers.raw")
    dog = Watchdog(pipeline_settings.model_copy(update={"watchdog_stall_seconds": 1}), StateFolder(Path()))

    async def held_for_long() -> bool:
        await dog.check()
        return max(row.held_seconds or 0 for row in dog._samples[-1].rows or ()) > 4

    with hung(pipeline_settings, topic, [(b"c", b"3")]):
        produce(pipeline_settings, topic, 0, 4)
        await eventually_async(held_for_long, what="it has been held for several times the limit")
        assert stalls == []
