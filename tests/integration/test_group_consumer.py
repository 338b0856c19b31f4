"""The consumer's side of a sink, on a real broker."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from monitoring.lag import read_lag
from runtime.kafka.clients import consumer_config, producer_config
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from sinks.group_consumer import FENCES, REJOIN_SECONDS, GroupConsumer, Offsets
from sinks.redis_invalidation import RedisInvalidationSink
from sinks.runner import Runner
from tests.integration.sink_events import change, publish, running
from tests.servers.contract import Servers
from tests.transactions import aborted, committed, hung, transactional_producer, write
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_async

GROUP, TOPIC = "sink-test", "customers.changed"


def double(settings: Settings) -> None:
    """Another member with the same instance id joins and is gone: what a coordinator makes of a lost answer."""
    consumer = Consumer(consumer_config(settings, GROUP))
    consumer.subscribe([settings.named(TOPIC)])
    eventually(lambda: consumer.poll(0.1) or consumer.assignment(), what="the double has the partitions")
    consumer.close()


def test_a_member_that_is_fenced_joins_again_and_reads_on(pipeline_settings: Settings) -> None:
    consumer = GroupConsumer(pipeline_settings, GROUP, [TOPIC])
    consumer.open()
    try:
        publish(pipeline_settings, TOPIC, change("C1", 1))
        (first,) = eventually(lambda: consumer.poll().messages, what="the first record")
        double(pipeline_settings)
        offsets = {(str(first.topic()), int(first.partition())): int(first.offset()) + 1}
        with ThreadPoolExecutor(1) as pool:
            dropped = pool.submit(consumer.commit, offsets)
            while not dropped.done():
                consumer.take_answers()
        assert dropped.result(), "one that was fenced is dropped, not tried for ever"
        publish(pipeline_settings, TOPIC, change("C1", 2))
        again = eventually(lambda: consumer.poll().messages, what="what was not committed comes again")
        assert again[0].offset() == first.offset()
    finally:
        consumer.close()


def test_a_commit_waits_for_its_answer_as_long_as_nobody_polls(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.group_consumer.COMMIT_SECONDS", 0.5)
    consumer = GroupConsumer(pipeline_settings, GROUP, [TOPIC])
    consumer.open()
    try:
        publish(pipeline_settings, TOPIC, change("C1", 1))
        (first,) = eventually(lambda: consumer.poll().messages, what="the first record")
        offsets = {(str(first.topic()), int(first.partition())): int(first.offset()) + 1}
        with ThreadPoolExecutor(1) as pool, structlog.testing.capture_logs() as logs:
            committed = pool.submit(consumer.commit, offsets)
            time.sleep(2)  # a long write
            while not committed.done():
                consumer.take_answers()
        assert committed.result()
        assert logs == [], "it was not given up"
    finally:
        consumer.close()


def test_partitions_that_come_back_after_the_store_is_there_again_are_read(pipeline_settings: Settings) -> None:
    """librdkafka keeps a partition paused when it is taken away and given back."""
    with consumer_on(pipeline_settings) as consumer:
        eventually(lambda: consumer.poll().messages or consumer.assigned, what="it has joined")
        consumer.hold(0.1)
        other = Consumer(consumer_config(pipeline_settings, GROUP, **{"group.instance.id": "another"}))
        other.subscribe([pipeline_settings.named(TOPIC)])
        with ThreadPoolExecutor(1) as pool:
            joined = pool.submit(eventually, lambda: other.poll(0.1) or other.assignment(), what="another has joined")
            while not joined.done():
                consumer.hold(0.05)
            joined.result()
        assert len(consumer.assigned) < pipeline_settings.topic_partitions
        consumer.resume()
        other.close()
        eventually(
            lambda: consumer.poll().messages or len(consumer.assigned) == pipeline_settings.topic_partitions,
            what="all partitions are back",
        )
        places = consumer.assigned
        producer = Producer(producer_config(pipeline_settings))
        for topic, partition in places:
            producer.produce(topic, b"x", b"k", partition)
        assert producer.flush(60) == 0
        read: set[tuple[str, int]] = set()

        def all_are_read() -> bool:
            read.update((str(m.topic()), int(m.partition())) for m in consumer.poll().messages)
            return read >= set(places)

        eventually(all_are_read, what="a record of each partition", within=20)


def test_a_member_whose_first_join_is_not_answered_joins_once_more(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.group_consumer.REJOIN_SECONDS", 1.0)
    busy = Consumer(consumer_config(pipeline_settings, GROUP, **{"group.instance.id": "busy"}))
    busy.subscribe([pipeline_settings.named(TOPIC)])
    eventually(lambda: busy.poll(0.1) or busy.assignment(), what="another has all partitions, and answers no more")
    with consumer_on(pipeline_settings) as consumer, structlog.testing.capture_logs() as logs:
        eventually(
            lambda: consumer.poll().messages or "stranded" in [line["event"] for line in logs],
            what="it joins once more",
        )
        monkeypatch.setattr("sinks.group_consumer.REJOIN_SECONDS", REJOIN_SECONDS)
        busy.close()
        publish(pipeline_settings, TOPIC, change("C1", 1))
        eventually(lambda: consumer.poll().messages, what="the record")


def test_a_member_whose_partitions_say_nothing_joins_once_more(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with consumer_on(pipeline_settings) as consumer, structlog.testing.capture_logs() as logs:
        eventually(lambda: consumer.poll().messages or consumer.assigned, what="it has joined")
        consumer._open_consumer().pause(consumer._open_consumer().assignment())
        consumer._unheard = set(consumer.assigned)
        monkeypatch.setattr("sinks.group_consumer.REJOIN_SECONDS", 1.0)
        eventually(
            lambda: consumer.poll().messages or "stranded" in [line["event"] for line in logs],
            what="it joins once more",
        )
        publish(pipeline_settings, TOPIC, change("C1", 1))
        eventually(lambda: consumer.poll().messages, what="the record")


def test_a_member_without_a_partition_waits_for_nothing(pipeline_settings: Settings) -> None:
    members = [
        GroupConsumer(pipeline_settings.model_copy(update={"worker_id": str(number)}), GROUP, [TOPIC])
        for number in range(pipeline_settings.topic_partitions + 1)
    ]

    def nobody_waits() -> bool:
        for member in members:
            member.poll()
        shares = sorted(len(member.assigned) for member in members)
        return shares == [0, *[1] * (len(members) - 1)] and all(member._silent_since is None for member in members)

    with contextlib.ExitStack() as stack:
        for member in members:
            stack.callback(member.close)
            member.open()
        eventually(nobody_waits, what="each has one partition, and the last has none")


def test_a_member_does_not_join_once_more_while_the_broker_is_away(
    pipeline_settings: Settings, servers: Servers
) -> None:
    with consumer_on(pipeline_settings) as consumer:
        eventually(lambda: consumer.poll().messages or consumer.assigned, what="it has joined")
        servers.stop("kafka")
        try:
            with structlog.testing.capture_logs() as logs:
                consumer._silent_since = time.monotonic() - REJOIN_SECONDS
                consumer.poll()
            assert "stranded" not in [line["event"] for line in logs], logs
        finally:
            servers.start("kafka")


def test_two_processes_with_one_worker_id_are_told_so(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.group_consumer.FENCES_WITHIN_SECONDS", 600.0)  # however busy the machine
    consumer = GroupConsumer(pipeline_settings, GROUP, [TOPIC])
    consumer.open()
    try:
        eventually(lambda: consumer.poll().messages or consumer.assigned, what="it has joined")
        with pytest.raises(KafkaException, match="give each one a WORKER_ID of its own"):
            fence_again_and_again(consumer, pipeline_settings)
    finally:
        consumer.close()


def fence_again_and_again(consumer: GroupConsumer, settings: Settings) -> None:
    for _ in range(FENCES + 1):
        double(settings)
        seen, until = consumer._fences, time.monotonic() + PATIENCE_SECONDS
        while consumer._fences is seen:
            consumer.poll()
            assert time.monotonic() < until, "it has not heard that it is fenced"
        eventually(lambda: consumer.poll().messages or consumer.assigned, what="it has joined again")


def test_offsets_without_a_record_are_handed_out_behind_the_records_before_them(pipeline_settings: Settings) -> None:
    topic, producer = pipeline_settings.named(TOPIC), transactional_producer(pipeline_settings)
    committed(producer, topic, [(b"C1", b"1"), (b"C2", b"2")])
    aborted(producer, topic, [(b"C3", b"3")])
    aborted(producer, topic, [(b"C1", None)], partition=1)
    with consumer_on(pipeline_settings) as consumer:
        assert read_to_the_end(consumer, {(topic, 0): 5, (topic, 1): 2}) == [(0, 0), (0, 1)]
        assert consumer.poll()[:2] == ([], {}), "told once"
        with hung(pipeline_settings, topic, [(b"C4", b"4")]):
            publish(pipeline_settings, TOPIC, change("C5", 1))
            assert consumer.poll()[:2] == ([], {}), "nobody is past the beginning of an open transaction"
        assert read_to_the_end(consumer, {(topic, 0): 8}) == [(0, 6)]


def test_no_offset_is_handed_out_while_a_record_before_it_waits_to_be_polled(pipeline_settings: Settings) -> None:
    topic, producer = pipeline_settings.named(TOPIC), transactional_producer(pipeline_settings)
    committed(producer, topic, [(b"C1", b"1")])
    with consumer_on(pipeline_settings) as consumer:

        def at_the_end() -> bool:
            consumer.take_answers()
            return consumer._behind.get((topic, 0)) == 2

        eventually(at_the_end, what="it has come to the end")
        (message,), offsets, _ = consumer.poll()
        assert message.offset() == 0
        assert offsets[topic, 0] == 2


async def test_a_sink_commits_behind_markers_and_never_past_a_record_that_its_store_lacks(
    pipeline_settings: Settings, servers: Servers
) -> None:
    topic, producer = pipeline_settings.named(TOPIC), transactional_producer(pipeline_settings)

    async def places() -> dict[int, int | None]:
        found = await read_lag(pipeline_settings)
        group = pipeline_settings.named("sink-redis")
        return {row.partition: row.committed for row in found if (row.group, row.topic) == (group, topic)}

    async with running(RedisInvalidationSink(pipeline_settings), pipeline_settings) as runner:
        servers.stop("redis")
        try:
            committed(producer, topic, [change_bytes("C1", 7)])
            await eventually_async(lambda: waits(runner), what="the sink waits for Redis")
            aborted(producer, topic, [change_bytes("C1", 8)])
            aborted(producer, topic, [change_bytes("C2", 8)], partition=1)
            assert (await places())[0] is None
        finally:
            servers.start("redis")

        async def all_passed() -> bool:
            now = await places()
            return (now[0], now[1]) == (4, 2)

        await eventually_async(all_passed, what="it has committed behind the markers")


def take_before(settings: Settings, place: tuple[str, int], offset: int) -> None:
    """Delete the records before, as retention would."""
    admin = admin_client(settings)
    for answer in admin.delete_records([TopicPartition(*place, offset)]).values():
        answer.result(30)


def test_what_retention_took_before_it_was_read_is_told_at_the_first_look_and_later(
    pipeline_settings: Settings,
) -> None:
    topic = pipeline_settings.named(TOPIC)
    first, second = (topic, 0), (topic, 1)
    told: list[tuple[str, int]] = []
    for partition in (0, 1):
        write(Producer(producer_config(pipeline_settings)), topic, [(b"C", b"1")] * 5, partition)
    member = Consumer(consumer_config(pipeline_settings, GROUP))
    member.commit(offsets=[TopicPartition(*first, 1)], asynchronous=False)
    member.close()
    for place, begin in ((first, 3), (second, 5)):
        take_before(pipeline_settings, place, begin)
    consumer = GroupConsumer(pipeline_settings, GROUP, [TOPIC], lambda *gone: told.append(gone))
    consumer.open()
    with structlog.testing.capture_logs() as logs:
        try:
            assert read_to_the_end(consumer, {first: 5, second: 5}) == [(0, 3), (0, 4)]
            assert told == [(topic, 2)], "of the other one the group had read nothing: that is its first look"
            consumer.hold(0)
            write(Producer(producer_config(pipeline_settings)), topic, [(b"C", b"1")] * 5, 1)
            take_before(pipeline_settings, second, 9)
            consumer.resume()
            eventually(lambda: consumer.poll().offsets.get(second) == 10, what="it reads on")
        finally:
            consumer.close()
    gone = {(line["partition"], line["begin"], line["end"]) for line in logs if line["event"] == "records_gone"}
    assert (f"{topic}/0", 1, 3) in gone
    assert sum(count for _, count in told) == sum(end - begin for _, begin, end in gone)


def test_the_markers_of_transactions_are_not_told_of_as_gone(pipeline_settings: Settings) -> None:
    topic, producer = pipeline_settings.named(TOPIC), transactional_producer(pipeline_settings)
    told: list[tuple[str, int]] = []
    consumer = GroupConsumer(pipeline_settings, GROUP, [TOPIC], lambda *gone: told.append(gone))
    consumer.open()
    try:
        for _ in range(3):
            committed(producer, topic, [(b"C1", b"1")])
        aborted(producer, topic, [(b"C2", b"2")])
        assert read_to_the_end(consumer, {(topic, 0): 8}) == [(0, 0), (0, 2), (0, 4)]
        take_before(pipeline_settings, (topic, 0), 8)
        publish(pipeline_settings, TOPIC, change("C3", 3))
        assert read_to_the_end(consumer, {(topic, 0): 9}) == [(0, 8)]
    finally:
        consumer.close()
    assert told == []


async def waits(runner: Runner[Any]) -> bool:
    return str(runner.health()["state"]) == "waiting_for_store"


def change_bytes(key: str, version: int) -> tuple[bytes, bytes]:
    return key.encode(), change(key, version)[1]


@contextmanager
def consumer_on(settings: Settings) -> Iterator[GroupConsumer]:
    consumer = GroupConsumer(settings, GROUP, [TOPIC])
    consumer.open()
    try:
        yield consumer
    finally:
        consumer.close()


def read_to_the_end(consumer: GroupConsumer, ends: Offsets) -> list[tuple[int, int]]:
    """Partitions and offsets of what has come by the time that these offsets are to be committed."""
    seen: list[tuple[int, int]] = []
    offsets: Offsets = {}

    def at_the_end() -> bool:
        messages, passed, _ = consumer.poll()
        seen.extend((message.partition(), message.offset()) for message in messages)
        offsets.update(passed)
        return offsets == ends

    eventually(at_the_end, what=f"it stands at {ends}")
    return seen
