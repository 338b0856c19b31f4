"""The lag engine against a real broker: beside Kafka's own tool, with transactions, with known times."""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from monitoring.groups_reader import GroupsReader
from monitoring.lag import our_groups
from monitoring.verdicts import Verdict
from monitoring.view import PartitionView, SystemLag, view_of
from monitoring.watching import read_view
from monitoring.window import Window
from runtime.kafka.clients import QUIET
from runtime.settings import Settings
from tests.consumer_groups import commit, produce, readable, topics
from tests.kafka_tools import describe_groups
from tests.transactions import aborted, committed, hung, transactional_producer
from tests.waiting import eventually_async


async def looked_at(settings: Settings) -> SystemLag:
    """One look, without a window."""
    reader = GroupsReader(settings)
    try:
        view = view_of(Window([await reader.read()]), our_groups(settings), now=time.time())
    finally:
        await reader.close()
    assert view is not None
    return view


def partition(view: SystemLag, group: str, topic: str, number: int = 0) -> PartitionView:
    """One partition of the view."""
    found = view.group(group)
    assert found is not None, f"{group} is not among {[one.group for one in view.groups]}"
    [row] = [row for one in found.topics if one.topic == topic for row in one.partitions if row.partition == number]
    return row


def delete_records(settings: Settings, topic: str, number: int, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    for done in admin.delete_records([TopicPartition(topic, number, before)]).values():
        done.result()


async def test_our_numbers_are_those_of_kafkas_own_tool_in_twenty_random_situations(settings: Settings) -> None:
    chance = random.Random(15)
    with topics(settings, 1, 2, 3, 5) as names:
        ends: dict[tuple[str, int], int] = {}
        for topic, count in zip(names, (1, 2, 3, 5), strict=True):
            for number in range(count):
                ends[topic, number] = chance.choice([0, 1, 7, 300, 2_500])
                produce(settings, topic, number, ends[topic, number])
        lost = next(place for place, end in ends.items() if end >= 300)
        delete_records(settings, *lost, before=200)
        groups = [f"{settings.namespace}.situation-{number}" for number in range(20)]
        for group in groups:
            places = chance.sample(sorted(ends), chance.randint(1, len(ends)))
            commit(settings, group, {place: chance.choice([0, ends[place] // 2, ends[place]]) for place in places})
        told = describe_groups(settings, groups)
        view = await looked_at(settings)
    ours = {
        (group.group, topic.topic, row.partition): (row.committed, row.end, row.lag + row.expired)
        for group in view.groups
        if group.group in groups
        for topic in group.topics
        for row in topic.partitions
    }
    assert len({group for group, *_ in told}) == 20
    assert ours == {place: (row.committed, row.end, row.lag) for place, row in told.items()}
    assert any(row.expired for group in view.groups for one in group.topics for row in one.partitions), "phantom lag"


async def test_with_transactions_what_is_said_to_be_exact_is_what_a_consumer_gets(settings: Settings) -> None:
    chance = random.Random(7)
    producer = transactional_producer(settings)
    with topics(settings, 1) as [topic]:
        for number in range(12):
            write = chance.choice([committed, aborted])
            write(producer, topic, [(b"k", f"{number}".encode())] * chance.randint(1, 30))
        produce(settings, topic, 0, 3)
        end = partition(await after(settings, "end", topic, 0), "end", topic).end
        positions = sorted({0, end, end - 3, *(chance.randint(0, end) for _ in range(6))})
        for position in positions:
            commit(settings, f"{settings.namespace}.at-{position}", {(topic, 0): position})
        view = await looked_at(settings)
        for position in positions:
            row = partition(view, f"{settings.namespace}.at-{position}", topic)
            assert row.lag == end - position
            if row.exact:
                assert row.waiting == readable(settings, topic, 0, position, end)
        exact = [partition(view, f"{settings.namespace}.at-{position}", topic).exact for position in positions]
    assert sum(exact) >= 4, "most of these gaps are small enough to be read"


async def after(settings: Settings, group: str, topic: str, offset: int) -> SystemLag:
    """The view after a group has committed an offset."""
    commit(settings, group, {(topic, 0): offset})
    return await looked_at(settings)


async def test_behind_a_transactions_marker_nothing_waits(settings: Settings) -> None:
    group = f"{settings.namespace}.eos"
    with topics(settings, 1) as [topic]:
        committed(transactional_producer(settings), topic, [(b"a", b"1"), (b"b", b"2")])
        row = partition(await after(settings, group, topic, 2), group, topic)
    assert (row.lag, row.waiting, row.exact, row.verdict, row.seconds) == (1, 0, True, Verdict.OK, 0.0)


async def test_what_an_open_transaction_holds_is_told_with_its_age_and_is_no_lag(settings: Settings) -> None:
    group = f"{settings.namespace}.held"
    with topics(settings, 1) as [topic]:
        produce(settings, topic, 0, 2)
        with hung(settings, topic, [(b"a", b"1")]):
            produce(settings, topic, 0, 4)
            row = partition(await after(settings, group, topic, 2), group, topic)
    assert (row.end, row.lag, row.held, row.verdict) == (2, 0, 5, Verdict.OK)
    assert row.held_seconds is not None
    assert 0 <= row.held_seconds < 60


@pytest.mark.parametrize("age", [0, 5, 61, 3_600, 90_000])
async def test_lag_in_seconds_is_the_age_of_the_record_that_is_read_next(settings: Settings, age: int) -> None:
    group = f"{settings.namespace}.aged"
    with topics(settings, 1, **{"retention.ms": "-1"}) as [topic]:
        begun = time.time()
        produce(settings, topic, 0, 5, timestamp=int((begun - 100_000) * 1000))
        # In the middle of a compressed batch, so that its head alone does not tell.
        produce(settings, topic, 0, 40, timestamp=int((begun - age) * 1000))
        produce(settings, topic, 0, 5)
        view = await after(settings, group, topic, 25)
        truth = age + view.at - begun
        row = partition(view, group, topic)
    assert row.seconds_by == "record"
    assert row.seconds is not None
    assert abs(row.seconds - truth) < 1


async def test_a_commit_beyond_all_that_is_written_is_told(settings: Settings) -> None:
    group = f"{settings.namespace}.ahead"
    with topics(settings, 1) as [topic]:
        produce(settings, topic, 0, 10)
        row = partition(await after(settings, group, topic, 500), group, topic)
    assert (row.lag, row.ahead, row.verdict) == (0, 490, Verdict.WARN)
    assert "made again or cut" in row.reason


async def test_what_retention_took_is_no_lag(settings: Settings) -> None:
    group = f"{settings.namespace}.phantom"
    with topics(settings, 1) as [topic]:
        produce(settings, topic, 0, 100)
        delete_records(settings, topic, 0, before=80)
        row = partition(await after(settings, group, topic, 10), group, topic)
    assert (row.lag, row.waiting, row.expired, row.begin) == (20, 20, 70, 80)


async def test_a_group_of_a_deleted_topic_is_shown_without_it(settings: Settings) -> None:
    group = f"{settings.namespace}.gone"
    with topics(settings, 1) as [stays]:
        with topics(settings, 2) as [goes]:
            produce(settings, goes, 1, 3)
            commit(settings, group, {(goes, 1): 1, (stays, 0): 0})
            assert partition(await looked_at(settings), group, goes, 1).lag == 2

        async def left() -> bool:
            found = (await looked_at(settings)).group(group)
            return found is not None and [one.topic for one in found.topics] == [stays]

        await eventually_async(left, what="only the other topic is left")


async def test_a_group_of_ours_that_never_committed_lags_by_all_there_is(pipeline_settings: Settings) -> None:
    named = pipeline_settings.named
    produce(pipeline_settings, named("orders.raw"), 1, 7)
    view = await read_view(pipeline_settings)
    row = partition(view, named("normalizer"), named("orders.raw"), 1)
    assert (row.committed, row.lag, row.waiting, row.verdict) == (None, 7, 7, Verdict.NO_CONSUMER)
    assert view.verdict is Verdict.NO_CONSUMER
    assert view.reason.startswith(named("normalizer"))
    assert not view.monitored
    assert view.lag == 14, "the landing sink has not read them either; groups of others do not count"


async def test_a_partition_is_told_with_the_member_that_reads_it(settings: Settings) -> None:
    group = f"{settings.namespace}.shared"
    with topics(settings, 4) as [topic]:
        config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group, "log_level": QUIET}
        members = [Consumer({**config, "group.instance.id": f"reader-{number}"}) for number in range(2)]
        try:
            for member in members:
                member.subscribe([topic])

            async def shared() -> bool:
                for member in members:
                    await asyncio.to_thread(member.poll, 0.1)
                return [len(member.assignment()) for member in members] == [2, 2]

            await eventually_async(shared, what="each has two partitions")
            commit(settings, f"{group}-other", {(topic, 0): 0})
            members[0].commit(offsets=[TopicPartition(topic, number, 0) for number in range(4)], asynchronous=False)
            view = await looked_at(settings)
            found = view.group(group)
            assert found is not None
            names = {row.partition: (row.member or "").split()[0] for row in found.topics[0].partitions}
            expected = {
                place.partition: f"reader-{number}"
                for number, member in enumerate(members)
                for place in member.assignment()
            }
        finally:
            for member in members:
                member.close()
    assert found.state == "Stable"
    assert names == expected
    assert partition(view, f"{group}-other", topic).member is None


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Requests that are sent meanwhile, by name."""
    sent: list[str] = []
    send = AIOKafkaClient.send

    async def counting(self: AIOKafkaClient, node: Any, request: Any, **options: Any) -> Any:
        sent.append(type(request).__name__)
        return await send(self, node, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaClient, "send", counting)
        yield sent


async def test_a_look_takes_as_many_requests_for_many_partitions_and_groups_as_for_few(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [f"{settings.namespace}.wide-{number}" for number in range(5)]
    reader = GroupsReader(settings)
    try:
        with topics(settings, 150) as [topic]:
            for number, group in enumerate(groups):
                commit(settings, group, {(topic, place): 0 for place in range(150)})
                produce(settings, topic, number, 3)
            await reader.read()
            with counted(monkeypatch) as sent:
                sample = await reader.read()
    finally:
        await reader.close()
    assert sample.groups is not None
    assert [len(sample.groups[group].topics[topic]) for group in groups] == [150] * 5
    assert sorted(sent) == ["DescribeGroups", "FetchOffsets", "ListGroups", *["OffsetRequest"] * 3], (
        "nothing is read twice"
    )
