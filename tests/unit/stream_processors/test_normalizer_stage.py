"""A batch of raw records goes to the clean topic and to failures, and is confirmed after both."""

import asyncio
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from runtime.errors import DeliveryFailed
from runtime.failure_limit import FailureLimit, FailureLimitReached
from runtime.settings import Settings
from schemas.events import CleanRecord, FailedRecord
from schemas.registry import dataset_named
from stream_processors.confirmations import Confirmations
from stream_processors.normalizer import SLICE_RECORDS, NormalizerStage
from stream_processors.normalizer_metrics import MAX_LABELS, OTHER, Progress, UnknownFields
from tests.unit.stream_processors.raw_records import RawRecord, RecordingProducer, customer


class Scene:
    def __init__(self, producer: RecordingProducer | None = None, most_bytes: int = 1_000_000) -> None:
        self.producer = producer or RecordingProducer()
        self.failed: list[DeliveryFailed] = []
        self.progress = Progress()
        self.confirmed: list[int] = []
        self.confirmations = Confirmations(most_bytes, self.failed.append)
        self.stage = NormalizerStage(
            dataset_named("customers"),
            "ns.customers.clean",
            "ns.failures",
            self.producer,
            self.confirmations,
            self.progress,
            FailureLimit(Settings()),
        )

    async def take(self, *records: Any) -> None:
        await self.stage.take(list(records), lambda: self.confirmed.append(len(records)))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"dataset": "customers", **labels}) or 0.0


async def test_each_record_goes_to_its_own_partition_with_its_key() -> None:
    scene = Scene()
    await scene.take(RawRecord(customer()), RawRecord(b"{broken", key=b"original"))
    clean, failure = scene.producer.produced
    assert (clean.topic, clean.key, clean.partition) == ("ns.customers.clean", b"CUST001", 3)
    assert (failure.topic, failure.key, failure.partition) == ("ns.failures", b"original", 3)
    assert msgspec.json.decode(clean.value, type=CleanRecord).key == "CUST001"
    assert msgspec.json.decode(failure.value, type=FailedRecord).reason == "not_json"


async def test_a_batch_is_confirmed_only_when_all_its_outputs_are_delivered() -> None:
    scene = Scene()
    await scene.take(RawRecord(customer()), RawRecord(b"{broken"), RawRecord(customer()))
    scene.producer.answer(2)
    await turn()
    assert scene.confirmed == []
    assert (scene.progress.records_in, scene.progress.records_out, scene.progress.confirmed_at) == (3, 0, None)
    scene.producer.answer()
    await turn()
    assert scene.confirmed == [3]
    assert (scene.progress.records_out, scene.progress.records_failed) == (2, 1)


async def test_a_failed_delivery_is_reported_and_nothing_is_confirmed() -> None:
    from confluent_kafka import KafkaError

    scene = Scene()
    await scene.take(RawRecord(customer()))
    scene.producer.answer(error=KafkaError(KafkaError._MSG_TIMED_OUT))
    await turn()
    assert scene.confirmed == []
    assert len(scene.failed) == 1


async def test_a_full_queue_makes_the_batch_wait() -> None:
    scene = Scene(RecordingProducer(room=2))
    taking = asyncio.ensure_future(scene.take(*[RawRecord(customer())] * 5))
    while len(scene.producer.produced) < 5:
        scene.producer.answer()
        await asyncio.sleep(0)
    await taking
    scene.producer.answer()
    await turn()
    assert scene.producer.full_errors > 0
    assert scene.confirmed == [5]


async def test_a_large_batch_lets_the_event_loop_breathe() -> None:
    scene = Scene()
    breaths = 0

    async def breathe() -> None:
        nonlocal breaths
        while True:
            breaths += 1
            await asyncio.sleep(0)

    breathing = asyncio.ensure_future(breathe())
    await scene.take(*[RawRecord(customer())] * SLICE_RECORDS * 4)
    breathing.cancel()
    assert breaths >= 3


async def test_outcomes_reasons_and_unknown_fields_are_counted() -> None:
    before = counted("headrace_normalizer_records_total", outcome="clean")
    broken = counted("headrace_normalizer_failures_total", reason="not_json")
    await Scene().take(RawRecord(customer(shoe_size=43)), RawRecord(b"{"), RawRecord(customer(shoe_size=44)))
    assert counted("headrace_normalizer_records_total", outcome="clean") == before + 2
    assert counted("headrace_normalizer_failures_total", reason="not_json") == broken + 1
    assert counted("headrace_normalizer_unknown_fields_total", field="shoe_size") == 2


def test_unknown_fields_have_a_bounded_number_of_labels() -> None:
    fields = UnknownFields("bounded")
    assert fields.count({"b": 1, "a": 2}) == ["a", "b"]
    assert fields.count({"a": 2}) == []
    fields.count({f"x{number}": 1 for number in range(2 * MAX_LABELS)})
    labels = {"dataset": "bounded", "field": OTHER}
    assert REGISTRY.get_sample_value("headrace_normalizer_unknown_fields_total", labels) == MAX_LABELS + 2


async def test_a_record_that_cannot_be_queued_stops_the_batch() -> None:
    class Refusing(RecordingProducer):
        def produce(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("fatal")

    scene = Scene(Refusing())
    with pytest.raises(RuntimeError, match="fatal"):
        await scene.take(RawRecord(customer()))
    await turn()
    assert scene.confirmed == []


async def test_a_stage_that_would_send_everything_to_failures_stops_before_it_does() -> None:
    scene = Scene()
    await scene.take(RawRecord(customer()))
    with pytest.raises(FailureLimitReached):
        await scene.take(*[RawRecord(b"no JSON")] * 1_100)
    assert len(scene.producer.produced) == 1 + 1_000 - SLICE_RECORDS
    (stopped,) = scene.progress.stopped.values()
    assert "1000 of the latest 1001 records of customers failed" in stopped.reason
    scene.producer.answer()
    await turn()
    assert scene.confirmed == [1], "what came before is confirmed, the batch that reached the limit is not"


async def test_a_stage_that_has_stopped_takes_nothing_more_however_good_it_is() -> None:
    scene = Scene()
    with pytest.raises(FailureLimitReached):
        await scene.take(*[RawRecord(b"no JSON")] * 1_100)
    produced = len(scene.producer.produced)
    with pytest.raises(FailureLimitReached):
        await scene.take(RawRecord(customer()))
    scene.producer.answer()
    await turn()
    assert (scene.confirmed, len(scene.producer.produced)) == ([], produced)


async def test_batches_that_reached_the_limit_leave_room_for_the_other_datasets() -> None:
    scene = Scene(most_bytes=10_000)
    with pytest.raises(FailureLimitReached):
        await scene.take(*[RawRecord(b"no JSON")] * 1_100)
    begun = scene.confirmations.begin(("records.raw", 0), 10_000, lambda: None)
    await asyncio.wait_for(begun, 5)
