"""Commits follow confirmed batches of the current generation, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from runtime.settings import Settings
from stream_processors.app import create_app
from stream_processors.batch_transport import BatchConsumer, BatchMessage, BatchThread, Fetched, confirm
from stream_processors.confirmations import Confirmations
from stream_processors.normalizer_metrics import Counts
from tests.unit.stream_processors.raw_records import RecordingProducer

RAW = TP("customers.raw", 0)


@pytest.fixture
async def app(tmp_path: Path) -> faust.App:
    settings = Settings(headrace_home=tmp_path, kafka_bootstrap_servers="127.0.0.1:1,127.0.0.1:2", worker_id="7")
    producer: Any = RecordingProducer()
    app = create_app(settings, producer, Confirmations(1, print), Counts(), print)
    app.topics.acking_topics.add(RAW.topic)
    app.consumer_generation_id = 5
    return app


@pytest.fixture
async def consumer(app: faust.App) -> AsyncIterator[BatchConsumer]:
    consumer = app.consumer
    assert isinstance(consumer, BatchConsumer)
    yield consumer
    consumer._thread.thread_loop.close()


@dataclass
class Assignment:
    """Like the one that aiokafka makes for each rebalance."""

    active: bool = True


ASSIGNMENT = Assignment()


def records(*offsets: int) -> Any:
    return [SimpleNamespace(offset=offset, timestamp=1000, timestamp_type=1) for offset in offsets]


def batch(consumer: BatchConsumer, *offsets: int, tp: TP = RAW, position: int | None = None) -> Any:
    """An event of the batch with those offsets, as a stream has taken it. `position`: the consumer's behind it."""
    position = offsets[-1] + 1 if position is None else position
    ((taken,),) = consumer.take(Fetched(ASSIGNMENT, {tp: records(*offsets)}, {tp: position})).values()
    message = consumer._to_message(tp, taken)
    message.incref()
    consumer.track_message(message)
    return SimpleNamespace(message=message, ack=lambda: message.ack(consumer))


def committable(consumer: BatchConsumer) -> dict[TP, int]:
    return dict(consumer._filter_committable_offsets(list(consumer._filter_tps_with_pending_acks())))


async def test_a_consumer_whose_thread_has_not_begun_holds_nothing(consumer: BatchConsumer) -> None:
    assert consumer.assignment() == set()


async def test_a_confirmed_batch_commits_behind_its_last_offset(consumer: BatchConsumer) -> None:
    confirm(batch(consumer, 10, 11, 14))
    assert committable(consumer) == {RAW: 15}
    assert not consumer.unacked


async def test_markers_behind_a_batch_are_committed_with_it(consumer: BatchConsumer) -> None:
    confirm(batch(consumer, 10, 11, position=13))
    assert committable(consumer) == {RAW: 13}


async def test_markers_alone_are_committed_once_no_batch_is_in_work(consumer: BatchConsumer) -> None:
    other = TP(RAW.topic, 1)
    event = batch(consumer, 10)
    assert consumer.take(Fetched(ASSIGNMENT, {}, {RAW: 12, other: 3})) == {}
    assert committable(consumer) == {other: 3}
    confirm(event)
    assert committable(consumer) == {RAW: 12, other: 3}


async def test_nothing_is_taken_once_a_rebalance_has_begun(consumer: BatchConsumer) -> None:
    batch(consumer, 10)  # is dropped by Faust, and comes again to whoever gets the partition
    consumer.stop_flow()
    assert consumer.take(Fetched(ASSIGNMENT, {RAW: records(11)}, {RAW: 12})) == {}
    consumer.resume_flow()
    assert consumer.take(Fetched(Assignment(active=False), {}, {RAW: 12})) == {}
    assert committable(consumer) == {}


async def test_a_partition_waits_for_what_can_be_read_and_for_what_is_in_work(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SimpleNamespace(position=3, has_valid_position=True, lso=3, highwater=9)
    assignment = SimpleNamespace(tps={RAW}, state_value=lambda _: state)
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    aiokafka = SimpleNamespace(assignment=lambda: {RAW}, _fetcher=SimpleNamespace(_subscriptions=subscriptions))
    monkeypatch.setattr(consumer._thread, "_consumer", aiokafka)
    assert consumer.waiting_partitions() == [], "a transaction holds the rest"
    state.lso = 9
    assert consumer.waiting_partitions() == [RAW]
    state.position = 9
    event = batch(consumer, 3, position=9)
    assert consumer.waiting_partitions() == [RAW]
    confirm(event)
    assert consumer.waiting_partitions() == []


async def test_another_assignment_begins_with_positions_of_its_own(consumer: BatchConsumer) -> None:
    event = batch(consumer, 10)
    consumer.take(Fetched(Assignment(), {}, {RAW: 5}))
    confirm(event)
    assert committable(consumer) == {RAW: 5}


async def test_what_was_fetched_while_no_records_may_flow_is_put_back(consumer: BatchConsumer) -> None:
    sought: list[tuple[TP, int]] = []
    aiokafka: Any = SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=ASSIGNMENT)),
        seek=lambda tp, offset: sought.append((tp, offset)),
        _closed=False,
        _fetcher=FetcherThatStopsTheFlow(consumer),
    )
    thread = consumer._thread
    assert isinstance(thread, BatchThread)
    assert await thread._fetch_records(aiokafka, {RAW}, timeout=1.0, max_records=10) is None
    assert sought == [(RAW, 10)]


class FetcherThatStopsTheFlow:
    """A fetch that a rebalance overtakes."""

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer
        self._closed = False
        self._subscriptions = SimpleNamespace(fetch_context=nullcontext)

    async def fetched_records(self, *_: Any, **__: Any) -> dict[TP, Any]:
        self._consumer.stop_flow()
        return {RAW: records(10, 11)}


async def test_batches_after_a_restart_are_committed_although_earlier_offsets_were_never_acked(
    consumer: BatchConsumer,
) -> None:
    consumer._committed_offset[RAW] = 1000
    consumer._read_offset[RAW] = 1000
    for last in (1999, 2999):
        await consumer._add_gap(RAW, 1001, last)
        confirm(batch(consumer, last - 1, last))
    assert committable(consumer) == {RAW: 3000}


async def test_a_batch_that_faust_acks_by_itself_is_not_committed(consumer: BatchConsumer) -> None:
    batch(consumer, 10).ack()
    assert committable(consumer) == {}
    assert not consumer.unacked, "a rebalance must not wait for it"


async def test_a_batch_of_an_earlier_generation_is_not_committed(app: faust.App, consumer: BatchConsumer) -> None:
    event = batch(consumer, 10)
    app.consumer_generation_id = 6
    confirm(event)
    assert committable(consumer) == {}


async def test_confirming_twice_changes_nothing(consumer: BatchConsumer) -> None:
    first, second = batch(consumer, 10), batch(consumer, 20)
    confirm(second)
    confirm(first)
    confirm(first)
    assert committable(consumer) == {RAW: 21}


async def test_what_is_committed_already_is_not_committed_again(consumer: BatchConsumer) -> None:
    confirm(batch(consumer, 10))
    consumer._committed_offset[RAW] = 11
    assert committable(consumer) == {}


async def test_what_was_revoked_is_forgotten(consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_on_partitions_revoked", _nothing)
    confirm(batch(consumer, 10))
    await consumer.on_partitions_revoked({RAW})
    assert committable(consumer) == {}


async def test_commits_can_be_asked_for_by_topic(consumer: BatchConsumer) -> None:
    confirm(batch(consumer, 10))
    assert list(consumer._filter_tps_with_pending_acks({"customers.raw"})) == [RAW]
    assert list(consumer._filter_tps_with_pending_acks({RAW})) == [RAW]
    assert list(consumer._filter_tps_with_pending_acks({"records.raw"})) == []


async def test_only_events_of_this_transport_can_be_confirmed() -> None:
    event: Any = SimpleNamespace(message=object())
    with pytest.raises(TypeError, match="batch transport"):
        confirm(event)


async def test_a_message_carries_the_generation_without_which_streams_skip_it(consumer: BatchConsumer) -> None:
    message = batch(consumer, 10).message
    assert isinstance(message, BatchMessage)
    assert message.generation_id == 5


async def test_the_app_has_one_agent_per_dataset_and_no_web_server(app: faust.App) -> None:
    assert sorted(app.agents) == ["normalize_customers", "normalize_orders", "normalize_records"]
    topics = [agent.get_topic_names() for _, agent in sorted(app.agents.items())]
    assert topics == [("customers.raw",), ("orders.raw",), ("records.raw",)]
    strategy: Any = app.boot_strategy
    assert list(strategy.web_server()) == []
    assert app.conf.consumer_group_instance_id == "normalizer-7"
    assert [str(url) for url in app.conf.broker] == ["kafka://127.0.0.1:1", "kafka://127.0.0.1:2"]


async def _nothing(_: Any) -> None:
    """Faust's own drain and commit, which need a broker."""
