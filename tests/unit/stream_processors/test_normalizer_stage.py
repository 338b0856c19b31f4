"""A batch of raw records goes to the clean topic and to failures, and is confirmed after both."""

import asyncio
from typing import Any, cast

import msgspec
import pytest
import structlog
from prometheus_client import REGISTRY

from runtime.errors import DeliveryFailed
from runtime.instruments import MAX_LABELS, OTHER
from runtime.metrics import METRICS
from runtime.settings import Settings
from schemas.events import HEADER_MAPPING, HEADER_PROBLEM, HEADER_SOURCE, CleanRecord, FailedRecord
from schemas.registry import dataset_named
from stream_processors.confirmations import Confirmations
from stream_processors.held import MOST_SOURCES
from stream_processors.normalizer import SLICE_RECORDS, NormalizerStage
from stream_processors.normalizer_metrics import Counts, UnknownFields
from tests.unit.stream_processors.raw_records import RawRecord, RecordingProducer, customer


class Scene:
    def __init__(
        self, producer: RecordingProducer | None = None, most_bytes: int = 10_000_000, settings: Settings | None = None
    ) -> None:
        self.producer = producer or RecordingProducer()
        self.failed: list[DeliveryFailed] = []
        self.counts = Counts()
        self.confirmed: list[int] = []
        self.confirmations = Confirmations(most_bytes, self.failed.append)
        self.stage = NormalizerStage(
            dataset_named("customers"),
            (settings or Settings()).model_copy(update={"headrace_namespace": "ns"}),
            cast("Any", self.producer),
            self.confirmations,
            self.counts,
        )

    async def take(self, *records: Any) -> None:
        await self.stage.take(list(records), lambda: self.confirmed.append(len(records)))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def counted(name: str, **labels: str) -> float:
    METRICS.expose("normalizer")
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
    assert (scene.counts.records_in, scene.counts.records_out) == (3, 0)
    scene.producer.answer()
    await turn()
    assert scene.confirmed == [3]
    assert (scene.counts.records_out, scene.counts.records_failed) == (2, 1)


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


async def test_a_large_batch_leaves_the_event_loop_its_turn() -> None:
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
    METRICS.expose("normalizer")
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


def of(source: bytes | None, value: bytes | None = b"no JSON", **fields: Any) -> RawRecord:
    headers = () if source is None else ((HEADER_SOURCE, source), (HEADER_MAPPING, b'{"email":"mail"}'))
    return RawRecord(value, headers=headers, **fields)


def outputs(scene: Scene) -> list[FailedRecord | CleanRecord]:
    types = {"ns.failures": FailedRecord, "ns.customers.clean": CleanRecord}
    return [msgspec.json.decode(one.value, type=types[one.topic]) for one in scene.producer.produced]


def held(scene: Scene) -> list[FailedRecord]:
    return [one for one in outputs(scene) if isinstance(one, FailedRecord) and one.held]


async def test_a_source_that_floods_is_held_and_the_others_go_on() -> None:
    scene = Scene()
    await scene.take(*[of(b"bad")] * 1_500, *[RawRecord(customer())] * 300, of(b"good"))
    assert len(held(scene)) == 1_500 - (1_000 - SLICE_RECORDS), "those of the slice with which the limit is reached too"
    assert {one.source for one in held(scene)} == {"bad"}
    assert sum(isinstance(one, CleanRecord) for one in outputs(scene)) == 300
    last = outputs(scene)[-1]
    assert isinstance(last, FailedRecord)
    assert (last.source, last.held) == ("good", False), "it fails by itself"
    assert "bad" in scene.counts.holding["customers"]
    scene.producer.answer()
    await turn()
    assert scene.confirmed == [1_801], "nobody waits"


async def test_what_is_held_keeps_all_that_a_release_needs() -> None:
    scene = Scene()
    await scene.take(*[of(b"bad")] * 1_000)
    valid = renamed(customer())
    await scene.take(of(b"bad"), of(b"bad", valid, key=b"K", offset=7, timestamp=9), of(b"bad", None, key=b"gone"))
    wrong, one, delete = held(scene)[-3:]
    assert (wrong.reason, one.reason, one.payload, one.key) == ("not_json", "held", valid, "K")
    assert (one.origin.offset, one.origin.timestamp) == (7, 9)
    assert one.headers == {HEADER_SOURCE: "bad", HEADER_MAPPING: '{"email":"mail"}'}
    assert (delete.payload, delete.key) == (None, "gone")


def renamed(value: bytes) -> bytes:
    return value.replace(b'"email"', b'"mail"')


async def test_holding_ends_when_the_share_of_failures_falls() -> None:
    scene = Scene()
    await scene.take(*[of(b"bad")] * 1_000)
    good = of(b"bad", renamed(customer()))
    await scene.take(*[good] * SLICE_RECORDS)
    assert len(held(scene)) == SLICE_RECORDS, "the share is below the limit"
    assert scene.counts.holding["customers"], "it is told as long as failures are in the window"
    await scene.take(*[good] * 1_000)
    assert not scene.counts.holding["customers"]


async def test_what_a_producer_has_marked_as_unreadable_does_not_count() -> None:
    scene = Scene()
    marked = RawRecord(b"a,b,c", headers=((HEADER_SOURCE, b"csv"), (HEADER_PROBLEM, b"ragged_row")))
    await scene.take(*[marked] * 5_000)
    assert held(scene) == []
    assert scene.counts.holding == {}


async def test_sources_beyond_the_most_share_a_window_with_those_without_a_name() -> None:
    scene = Scene()
    await scene.take(*[of(b"source %d" % number) for number in range(MOST_SOURCES + 2_000)])
    assert 500 < len(held(scene)) < 2_000, "the flood of names is held"
    await scene.take(of(None), of(b"source 1"))
    nameless, named = outputs(scene)[-2:]
    assert isinstance(nameless, FailedRecord)
    assert isinstance(named, FailedRecord)
    assert (nameless.held, named.held) == (True, False)


async def test_a_source_is_told_once_however_much_it_floods() -> None:
    scene = Scene()
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            await scene.take(*[of(b"bad")] * 1_000)
    assert [line["event"] for line in lines] == ["source_held"]
    assert "1000 of its latest 1000 records failed" in lines[0]["reason"]
    assert "headrace failures release" in lines[0]["remedy"]


async def test_a_failure_limit_of_zero_percent_holds_nothing() -> None:
    scene = Scene(settings=Settings(failure_limit_percent=0))
    await scene.take(*[of(b"bad")] * 5_000)
    assert held(scene) == []
