"""Reprocessing on a real broker and Postgres: what is read from where, in which order, and how it goes on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import msgspec
import pytest
from confluent_kafka import Producer
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.kafka.clients import producer_config
from runtime.kafka.lookup import RawLookup
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from schemas.events import CleanRecord
from schemas.registry import dataset_named
from services.reprocessing import covered_records
from services.reprocessing.reprocess import Choice, Counts, Reading, Reprocess
from stores.checkpoints import CheckpointTaken
from stores.postgres_engine import postgres_engine
from stores.tables import ingest_failures, raw_csv_data

RECORDS = dataset_named("records")
SHOP = {"shop": Reading("csv", b'{"source_id":"id","name":"full name"}')}
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def engine(pipeline_settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = postgres_engine(pipeline_settings)
    yield engine
    await engine.dispose()


def row(number: int) -> bytes:
    return json.dumps({"id": str(number), "full name": f"Tool {number}"}).encode()


async def booked(settings: Settings, engine: AsyncEngine, count: int, source: str = "shop", wrong: int = -1) -> None:
    """Publish records to partition 0 and book them as inserted."""
    producer = Producer(producer_config(settings))
    headers: list[tuple[str, str | bytes | None]] = [("headrace-source", source.encode()), ("headrace-kind", b"csv")]
    for number in range(count):
        producer.produce(
            settings.named("records.raw"),
            b"{}" if number == wrong else row(number),
            f"{source}:{number}",
            0,
            headers=headers,
        )
    await asyncio.to_thread(producer.flush)
    await book(engine, settings.named("records.raw"), 0, count)


async def book(engine: AsyncEngine, topic: str, partition: int, count: int) -> None:
    statement = text(
        'INSERT INTO coverage (topic, "partition", ranges, inserted)'
        " VALUES (:topic, :partition, int8multirange(int8range(0, :count)), :count)"
    )
    async with engine.begin() as connection:
        await connection.execute(statement, {"topic": topic, "partition": partition, "count": count})


async def sent(settings: Settings) -> list[CleanRecord]:
    topic = settings.named("records.clean")
    ends = await asyncio.to_thread(end_offsets, settings, [topic])
    wanted = [(topic, place.partition, offset) for place, end in ends.items() for offset in range(end)]
    lookup = RawLookup(settings)
    try:
        found = await asyncio.to_thread(lookup.read, wanted)
    finally:
        lookup.close()
    return [msgspec.json.decode(found[place].value or b"", type=CleanRecord) for place in sorted(found)]


@pytest.fixture
def work(pipeline_settings: Settings, engine: AsyncEngine) -> Callable[..., Reprocess]:
    def begin(source: str | None = None, since: datetime | None = None, **readings: Reading) -> Reprocess:
        choice = Choice(RECORDS, source, since)
        return Reprocess(pipeline_settings, engine, choice, readings or SHOP)

    return begin


def nothing(_: Counts, __: int) -> None:
    return None


async def test_an_interrupted_job_goes_on_and_sends_every_record_once_newest_first(
    pipeline_settings: Settings, engine: AsyncEngine, work: Callable[..., Reprocess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covered_records, "WINDOW", 3)
    await booked(pipeline_settings, engine, 10)

    def stops(counts: Counts, _: int) -> None:
        if counts.offsets >= 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await work().run("", from_start=False, progress=stops)
    first = await sent(pipeline_settings)
    assert [record.origin.offset for record in first] == [9, 8, 7, 6]
    seen: list[int] = []
    state = await work().run(
        "", from_start=False, progress=lambda counts, total: seen.append(counts.offsets * 100 // total)
    )
    records = await sent(pipeline_settings)
    assert [record.origin.offset for record in records] == [*range(9, -1, -1)]
    assert {record.reprocess for record in records} == {state.job} == {first[0].reprocess}
    assert (state.counts.sent, state.counts.topic, seen) == (10, 10, [70, 100])
    assert records[0].key == "shop:9"
    assert json.loads(bytes(records[0].data))["name"] == "Tool 9"

    assert (await work().run("", from_start=False, progress=nothing)).job == state.job, "until Postgres has all"
    await work().end("")
    assert (await work().run("", from_start=False, progress=nothing)).job != state.job
    other = Reading("csv", b'{"source_id":"id","name":"id"}')
    changed = await work(shop=other).run("", from_start=False, progress=nothing)
    assert (changed.counts.sent, len(await sent(pipeline_settings))) == (10, 30), "a mapping that changed begins anew"


async def test_only_one_process_at_a_time_reprocesses_a_dataset(
    pipeline_settings: Settings, engine: AsyncEngine, work: Callable[..., Reprocess]
) -> None:
    await booked(pipeline_settings, engine, 1)
    other = work()._store("")
    await other.begin(restart=False)
    with pytest.raises(CheckpointTaken, match="another run of reprocess records"):
        await work().run("", from_start=False, progress=nothing)
    await other.close()


async def test_records_of_an_ended_epoch_come_from_the_landing_tables_with_their_own_coordinates(
    pipeline_settings: Settings, engine: AsyncEngine, work: Callable[..., Reprocess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covered_records, "MOST_BYTES", 100)  # not all at once
    topic = pipeline_settings.named("records.raw")
    await book(engine, f"{topic}@0", -1, 4)
    landed = [
        {
            "topic": f"{topic}@0", "partition": -1, "offset": number, "key": f"{source}:{number}",
            "source_name": source, "run_id": "r", "payload": payload, "received_at": SINCE.replace(day=1 + number),
        }
        for number, (source, payload) in enumerate(
            (("shop", row(0)), ("shop", row(1)), ("gone", row(2)), ("gone", b'{"source_id":"7","name":"Plain"}'))
        )
    ]  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(insert(raw_csv_data), landed)
    state = await work(since=SINCE.replace(day=2)).run("", from_start=False, progress=nothing)
    records = await sent(pipeline_settings)
    places = [(record.key, record.origin.topic, record.origin.partition, record.origin.offset) for record in records]
    assert places == [("gone:7", topic, 0, 3), ("shop:1", topic, 0, 1)]
    assert json.loads(bytes(records[1].data))["source"] == "csv"
    counts = state.counts
    assert (counts.landing, counts.topic, counts.sent) == (3, 0, 2)
    assert counts.invalid == {"missing_field": 1}, "nobody says how to read 'full name' for it any more"


async def test_failures_that_somebody_has_acted_on_are_left_alone(
    pipeline_settings: Settings, engine: AsyncEngine, work: Callable[..., Reprocess]
) -> None:
    await booked(pipeline_settings, engine, 7, wrong=5)
    about = {"dataset": "records", "stage": "normalizer", "reason": "required", "message": "m", "problems": []}
    states = (
        *(("open", None), ("discarded", None), ("held", None), ("open", b"{}"), ("released", None), ("open", None)),
        ("resolved", None),
    )
    rows = [
        {**about, "topic": pipeline_settings.named("records.raw"), "partition": 0, "offset": number, "state": state,
         "edited_payload": edited, "failed_at": SINCE}
        for number, (state, edited) in enumerate(states)
    ]  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(insert(ingest_failures), rows)
    producer = Producer(producer_config(pipeline_settings))
    producer.produce(pipeline_settings.named("records.raw"), None, "x:1", 0)
    await asyncio.to_thread(producer.flush)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE coverage SET ranges = '{[0,8)}', inserted = 8"))
    planned = await work("shop").plan(nothing)
    assert (planned.sent, planned.deletes, planned.acted_on, planned.forecast) == (4, 1, 3, {"changed": 3})
    assert (planned.still_failed, planned.invalid) == (1, {})
    assert (await work("another").plan(nothing)).sent == 1, "the delete"
    assert await sent(pipeline_settings) == []
