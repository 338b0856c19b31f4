"""Rehearsals end by themselves, strike the share that was asked for, and are told."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from producers.source import ResumableSource, SourceBatch, SourceDescription, SourceFailed, SourceRecord
from rehearsals import file as rehearsals
from rehearsals.file import LONGEST_SECONDS, RefusedRehearsal, Rehearsal
from rehearsals.normalizer import RehearsedNormalizer
from rehearsals.sinks import RehearsedOutage, RehearsedSink
from rehearsals.source import RehearsedSource, rehearsed_source
from rehearsals.watch import RehearsalWatch, watch_for
from runtime.settings import Settings
from schemas.events import HEADER_SOURCE, FailedRecord
from schemas.registry import dataset_named
from stores.checkpoints import Position
from stream_processors.normalize import Rejected
from tests.unit.stream_processors.raw_records import RawRecord, customer

NOW = 4_000_000_000.0
"""Far ahead, so that nothing ends while a test runs unless its own clock says so."""


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def rehearsal(stage: Any, kind: Any, percent: float = 100, seconds: float = 60, **more: Any) -> Rehearsal:
    return Rehearsal("r1", stage, kind, percent, NOW, NOW + seconds, **more)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # The watches of a process are its own for life; those of a test end with it.
    monkeypatch.setattr("rehearsals.watch._here", {})
    monkeypatch.setattr("runtime.health._shown_too", {})
    return Settings(headrace_home=tmp_path, rehearsals=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watching(settings: Settings, clock: Clock, *begun: Rehearsal) -> RehearsalWatch:
    for one in begun:
        rehearsals.begin(settings.home, one)
    return RehearsalWatch(settings, begun[0].stage if begun else "normalizer", clock)


def test_no_process_watches_for_rehearsals_unless_the_settings_allow_them(settings: Settings) -> None:
    assert watch_for(settings.model_copy(update={"rehearsals": False}), "redis") is None
    assert watch_for(settings, "redis") is not None


def test_a_rehearsal_is_noticed_within_a_second_and_ends_by_itself(settings: Settings, clock: Clock) -> None:
    watch = watching(settings, clock)
    assert watch.active() == ()
    with structlog.testing.capture_logs() as log:
        rehearsals.begin(settings.home, rehearsal("normalizer", "slow", seconds=10))
        clock.now += 0.9
        assert watch.active() == ()
        clock.now += 0.2
        assert [one.id for one in watch.active()] == ["r1"]
        assert watch.active()
        clock.now += 10
        assert watch.active() == ()
    assert [line["event"] for line in log] == ["rehearsal_began", "rehearsal_ended"]


def test_a_rehearsal_can_be_ended_before_its_time(settings: Settings, clock: Clock) -> None:
    watch = watching(settings, clock, rehearsal("redis", "outage"))
    assert watch.strikes_batch("outage")
    assert rehearsals.end(settings.home, {"another"}) == []
    assert [one.id for one in rehearsals.end(settings.home)] == ["r1"]
    clock.now += 1
    assert watch.strikes_batch("outage") is None


def test_a_rehearsal_of_the_same_stage_and_kind_replaces_the_first(settings: Settings) -> None:
    rehearsals.begin(settings.home, rehearsal("redis", "outage"))
    rehearsals.begin(settings.home, rehearsal("redis", "slow"))
    rehearsals.begin(settings.home, rehearsal("redis", "outage", percent=7))
    assert sorted((one.kind, one.percent) for one in rehearsals.running(settings.home)) == [
        ("outage", 7),
        ("slow", 100),
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (rehearsal("redis", "invalid"), "nothing can be invalid there"),
        (rehearsal("elasticsearch", "slow", source="titanic"), "leave --source out"),
        (rehearsal("postgres", "slow", percent=0), "more than 0"),
        (rehearsal("postgres", "slow", percent=101), "at most 100"),
        (rehearsal("postgres", "slow", seconds=LONGEST_SECONDS + 1), "60 minutes"),
    ],
)
def test_a_rehearsal_that_has_no_meaning_is_refused(settings: Settings, wrong: Rehearsal, says: str) -> None:
    with pytest.raises(RefusedRehearsal, match=says):
        rehearsals.begin(settings.home, wrong)
    assert rehearsals.running(settings.home) == []


def test_a_file_that_is_not_ours_holds_no_rehearsals(settings: Settings) -> None:
    rehearsals.begin(settings.home, rehearsal("redis", "slow"))
    rehearsals.file_of(settings.home).write_bytes(b"{nonsense")
    assert rehearsals.running(settings.home) == []


def test_about_the_wanted_share_of_records_is_struck_and_always_the_same(settings: Settings, clock: Clock) -> None:
    watch = watching(settings, clock, rehearsal("normalizer", "invalid", percent=5, source="shop"))

    def struck(source: str) -> set[int]:
        return {n for n in range(10_000) if watch.strikes_record(source, 1, n)}

    assert 400 < len(struck("shop")) < 600
    assert struck("shop") == struck("shop")
    assert struck("other") == set()


def test_a_batch_is_struck_only_with_a_record_of_the_source(settings: Settings, clock: Clock) -> None:
    watch = watching(settings, clock, rehearsal("postgres", "slow", source="shop"))
    assert watch.strikes_batch("slow", lambda: {"other"}) is None
    assert watch.strikes_batch("slow", lambda: {"other", "shop"})
    assert watch.strikes_batch("outage", lambda: {"shop"}) is None


def test_the_normalizer_rejects_what_is_struck_with_a_reason_of_its_own(settings: Settings, clock: Clock) -> None:
    watch = watching(settings, clock, rehearsal("normalizer", "invalid", source="shop"))
    normalizer = RehearsedNormalizer(dataset_named("customers"), watch)
    rejected = normalizer.normalize(RawRecord(customer(), [(HEADER_SOURCE, b"shop")]), 1)
    assert isinstance(rejected, Rejected)
    failed = msgspec.json.decode(rejected.value, type=FailedRecord)
    assert (failed.reason, failed.stage, failed.payload) == ("rehearsal", "normalizer", customer())
    assert "r1: normalizer invalid" in failed.message
    assert not isinstance(normalizer.normalize(RawRecord(customer(), [(HEADER_SOURCE, b"else")]), 1), Rejected)


class Shop:
    """A source of two batches."""

    description = SourceDescription("shop", "api", dataset_named("customers"))

    async def batches(self) -> AsyncIterator[SourceBatch]:
        for start in (0, 2):
            records = [SourceRecord(json.dumps({"n": n}).encode(), str(n)) for n in range(start, start + 2)]
            yield SourceBatch([*records, SourceRecord(None, "gone")], None)


class ResumableShop(Shop):
    scope = "shop"

    def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:  # noqa: ARG002
        return self.batches()


def test_a_source_is_wrapped_only_where_rehearsals_are_allowed(settings: Settings) -> None:
    shop = Shop()
    assert rehearsed_source(shop, settings.model_copy(update={"rehearsals": False})) is shop
    assert not isinstance(rehearsed_source(shop, settings), ResumableSource)
    feed = ResumableShop()
    assert isinstance(rehearsed_source(feed, settings), ResumableSource)


async def test_a_source_sends_struck_records_as_they_are_with_the_reason_beside(
    settings: Settings, clock: Clock
) -> None:
    watch = watching(settings, clock, rehearsal("producers", "invalid"))
    [first, _] = [batch async for batch in RehearsedSource(Shop(), watch).batches()]
    assert [record.value for record in first.records] == [b'{"n": 0}', b'{"n": 1}', None]
    assert [(record.problem or "").partition(";")[0] for record in first.records] == ["rehearsal", "rehearsal", ""]


async def test_a_source_whose_outage_is_rehearsed_cannot_be_read(settings: Settings, clock: Clock) -> None:
    watch = watching(settings, clock, rehearsal("producers", "outage", source="shop"))
    with pytest.raises(SourceFailed, match="rehearsal r1"):
        [batch async for batch in RehearsedSource(Shop(), watch).batches()]


class ListSink:
    """A sink that keeps what it is given."""

    name, group, topics = "redis", "sink-redis", ("x",)

    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.paused: dict[str, str] = {}

    async def setup(self) -> None: ...

    def prepare(self, messages: Any) -> list[int]:
        return list(messages)

    async def write(self, batch: list[int]) -> None:
        self.written.append(batch)

    async def close(self) -> None: ...


async def test_a_sink_is_held_up_as_long_as_the_outage_lasts(settings: Settings, clock: Clock) -> None:
    inner = ListSink()
    sink = RehearsedSink(inner, watching(settings, clock, rehearsal("redis", "outage", seconds=10)))
    with pytest.raises(RehearsedOutage, match="rehearsal r1"):
        await sink.write([1])
    clock.now += 10
    await sink.write([1])
    assert inner.written == [[1]]


async def test_a_slow_sink_takes_its_time(settings: Settings, clock: Clock) -> None:
    inner = ListSink()
    sink = RehearsedSink(inner, watching(settings, clock, rehearsal("redis", "slow", delay_seconds=0.05)))
    started = asyncio.get_running_loop().time()
    await sink.write([1])
    assert asyncio.get_running_loop().time() - started >= 0.05
    assert inner.written == [[1]]
