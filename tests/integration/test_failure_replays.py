"""Replay jobs on a real broker: their pace, pausing, and what they send. No pipeline takes the records here."""

import asyncio
import datetime
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Producer
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.errors import DeliveryFailed
from runtime.kafka import confirmed
from runtime.kafka.clients import producer_config
from runtime.kafka.lookup import RawLookup, RawMessage
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from services.failures import actions, candidates, listing, replay, replay_jobs
from services.failures.editing import edit
from services.failures.replay_jobs import ReplayJob
from services.failures.selection import Selection
from services.failures.settling import settle
from stores.epochs import archived_partition, archived_topic, note_epochs
from stores.failure_states import ActionRefused, CannotEdit
from stores.postgres_engine import postgres_engine
from stores.tables import OUTCOMES, coverage, ingest_failures, raw_csv_data, run_outcomes
from tests.integration.placeless import every_third_placeless
from tests.recreated_topic import recreate
from tests.waiting import eventually_async

ALL = Selection(datasets=("customers",))
HEADERS: list[tuple[str, str | bytes | None]] = [
    ("headrace-source", b"shop"),
    ("headrace-kind", b"csv"),
    ("headrace-mapping", b'{"email":"mail"}'),
]
RUN = ("headrace-run", b"its run has counted it")


@pytest.fixture
async def engine(pipeline_settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = postgres_engine(pipeline_settings)
    yield engine
    await engine.dispose()


def value_of(number: int, mail: str = "c@example.org") -> bytes:
    return json.dumps({"customer_id": f"C{number}", "first_name": "A", "last_name": "B", "mail": mail}).encode()


async def fail_records(
    settings: Settings,
    engine: AsyncEngine,
    count: int,
    mail: str = "c@example.org",
    dataset: str = "customers",
    **fields: Any,
) -> list[int]:
    """Publish records, and note each as a failure of the normalizer; returns the failures' ids."""
    rows: list[dict[str, Any]] = []
    producer = Producer(producer_config(settings))

    def delivered(error: Any, message: Any) -> None:
        assert error is None
        place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        about = {"dataset": dataset, "stage": "normalizer", "reason": "email_form", "message": "x", "problems": []}
        when = datetime.datetime.now(datetime.UTC)
        key = message.key().decode()
        row = {**about, **place, "key": key, "payload": message.value(), "source_name": "shop", "failed_at": when}
        rows.append(row | fields)

    for number in range(count):
        topic = settings.named(f"{dataset}.raw")
        headers = [*(HEADERS if dataset == "customers" else ()), RUN]
        producer.produce(topic, value_of(number, mail), f"C{number}", headers=headers, on_delivery=delivered)
        producer.poll(0)
    await asyncio.to_thread(producer.flush)
    async with engine.begin() as connection:
        inserted = await connection.execute(insert(ingest_failures).returning(ingest_failures.c.id), rows)
        return sorted(inserted.scalars())


async def replayed(settings: Settings, engine: AsyncEngine) -> dict[int, RawMessage]:
    """What was sent again, by the failure's id."""
    columns = "replayed_topic, replayed_partition, replayed_offset"
    async with engine.connect() as connection:
        query = text(f"SELECT id, {columns} FROM ingest_failures WHERE replayed_topic IS NOT NULL")  # noqa: S608
        places = {row[0]: (row[1], row[2], row[3]) for row in await connection.execute(query)}
    lookup = RawLookup(settings)
    try:
        found = await asyncio.to_thread(lookup.read, list(places.values()))
    finally:
        lookup.close()
    return {number: found[place] for number, place in places.items()}


async def raw_records(settings: Settings) -> int:
    ends = await asyncio.to_thread(end_offsets, settings, [settings.named("customers.raw")])
    return sum(ends.values())


async def test_a_thousand_failures_at_five_hundred_a_second_take_two_seconds(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    seconds = []
    for rate in (None, 500):
        await fail_records(pipeline_settings, engine, 1000)
        job = await replay.start(pipeline_settings, ALL, "tester", rate=rate)
        started = time.monotonic()
        done = await replay.run(pipeline_settings, job.id, "tester")
        seconds.append(time.monotonic() - started)
        assert (done.state, done.sent, done.skipped) == ("done", 1000, 0)
    unpaced, paced = seconds
    # Never faster; slower only by what a busy machine takes for the same without a pace.
    assert 2.0 <= paced < 3.0 + 2 * unpaced
    assert await raw_records(pipeline_settings) == 4000


async def test_a_record_whose_report_has_no_offset_is_sent_again(
    pipeline_settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail_records(pipeline_settings, engine, 6)
    job = await replay.start(pipeline_settings, ALL, "tester")
    queue = confirmed._queued
    with monkeypatch.context() as patch:
        wrapped = every_third_placeless(lambda report, *arguments: report(*arguments))
        patch.setattr(confirmed, "_queued", lambda p, m, report: queue(p, m, lambda *a: wrapped(report, *a)))
        with pytest.raises(
            DeliveryFailed, match=r"confirmed 4 of 6 records \(reported as written, but without an offset"
        ):
            await replay.run(pipeline_settings, job.id, "tester")
    done = await replay.run(pipeline_settings, job.id, "tester")
    assert (done.state, done.sent) == ("done", 6)
    assert await raw_records(pipeline_settings) == 6 + 6 + 2


async def test_a_job_is_paused_by_another_process_and_goes_on_without_sending_anything_twice(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    await fail_records(pipeline_settings, engine, 300)
    job = await replay.start(pipeline_settings, ALL, "tester", rate=200)
    under_way = asyncio.Event()
    running = asyncio.create_task(replay.run(pipeline_settings, job.id, "tester", lambda _: under_way.set()))
    await under_way.wait()
    with pytest.raises(ActionRefused, match="another process"):
        await replay.run(pipeline_settings, job.id, "somebody else")
    async with engine.begin() as connection:
        assert (await replay_jobs.job(connection, job.id)).attended
        await replay_jobs.change_state(connection, job.id, "paused", "somebody", replay_limit=3)
    paused = await running
    assert paused.state == "paused"
    assert 0 < paused.sent < 300
    assert (await replay.run(pipeline_settings, job.id, "tester")).sent == 300
    assert await raw_records(pipeline_settings) == 600


async def test_ctrl_c_pauses_after_the_step_that_is_under_way_and_cancel_opens_the_rest(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    await fail_records(pipeline_settings, engine, 200)
    job = await replay.start(pipeline_settings, ALL, "tester", rate=100)
    under_way = asyncio.Event()
    running = asyncio.create_task(replay.run(pipeline_settings, job.id, "tester", lambda _: under_way.set()))
    await under_way.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with engine.begin() as connection:
        paused = await replay_jobs.job(connection, job.id)
        assert (paused.state, paused.attended) == ("paused", False)
        await replay_jobs.change_state(connection, job.id, "cancelled", "tester", replay_limit=3)
        opened = await listing.count(connection, Selection(states=("open",)))
        sent = await listing.count(connection, Selection(states=("replayed",)))
    assert (opened, sent) == (200 - paused.sent, paused.sent)
    assert await raw_records(pipeline_settings) == 200 + paused.sent
    with pytest.raises(ActionRefused, match="cancelled already"):
        await replay.run(pipeline_settings, job.id, "tester")


async def test_a_replay_is_the_original_record_with_two_headers_more_and_of_no_run(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    (number,) = await fail_records(pipeline_settings, engine, 1, attempts=1)
    await run_one(pipeline_settings, number)
    (sent,) = (await replayed(pipeline_settings, engine)).values()
    assert (sent.key, sent.value) == (b"C0", value_of(0))
    assert dict(sent.headers) == {
        **dict(HEADERS),
        "headrace-replay-of": str(number).encode(),
        "headrace-replay-count": b"2",
    }


async def test_an_edit_is_written_to_the_column_that_the_mapping_names(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    (number,) = await fail_records(pipeline_settings, engine, 1)
    edited = await edit(pipeline_settings, number, "tester", values={"email": "new@example.org"})
    assert json.loads(edited.after) == {**json.loads(value_of(0)), "mail": "new@example.org"}
    await run_one(pipeline_settings, number)
    (sent,) = (await replayed(pipeline_settings, engine)).values()
    assert sent.value == edited.after
    assert dict(sent.headers)["headrace-mapping"] == b'{"email":"mail"}'


async def test_bytes_that_the_topic_no_longer_holds_come_from_the_landing_table(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    (number,) = await fail_records(pipeline_settings, engine, 1, stage="postgres", payload=b'{"clean": "data"}')
    async with engine.begin() as connection:
        await connection.execute(update(ingest_failures).values(offset=70_000))
        row = await listing.one(connection, number)
        place = {name: row[name] for name in ("topic", "partition", "offset")}
        normal = value_of(0).replace(b"mail", b"email")
        landed = {**place, "payload": normal, "received_at": row["failed_at"]}
        await connection.execute(insert(raw_csv_data).values(landed))
    await run_one(pipeline_settings, number)
    (sent,) = (await replayed(pipeline_settings, engine)).values()
    assert (sent.key, sent.value) == (b"C0", normal)
    assert dict(sent.headers)["headrace-source"] == b"shop"


async def test_a_failure_of_an_ended_epoch_is_sent_to_the_topic_as_it_is_now(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    (number,) = await fail_records(pipeline_settings, engine, 1)
    async with engine.begin() as connection:
        row = await listing.one(connection, number)
        archived = {"topic": archived_topic(row["topic"], 1), "partition": archived_partition(row["partition"], 1)}
        headers = {"headrace-source": "shop", "headrace-mapping": '{"email":"mail"}'}
        await connection.execute(update(ingest_failures).values(**archived, raw_headers=headers))
    await run_one(pipeline_settings, number)
    async with engine.begin() as connection:
        sent = await listing.one(connection, number)
    assert (sent["replayed_topic"], sent["replayed_partition"]) == (row["topic"], row["partition"])
    (record,) = (await replayed(pipeline_settings, engine)).values()
    assert (record.key, record.value) == (b"C0", value_of(0))


async def test_a_dry_run_says_what_the_run_does_with_records_that_would_fail_again(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    await fail_records(pipeline_settings, engine, 2)
    invalid = await fail_records(pipeline_settings, engine, 36, mail="nobody")
    for force, sent, ready, left in ((False, 2, 2, 36), (True, 36, 0, 0)):
        plan = await candidates.plan(pipeline_settings, ALL, force=force)
        idle = 0 if not force else 2  # sent by the job before
        assert (plan.total, plan.sent, plan.ready) == (38, sent, ready)
        done = await replay.run(
            pipeline_settings, (await replay.start(pipeline_settings, ALL, "tester", force=force)).id, "tester"
        )
        assert (done.sent, done.skipped) == (plan.sent, plan.total - plan.sent - idle) == (sent, left)
        if not force:
            assert await states(engine) == {"replayed": 2, "open": 36}
            with pytest.raises(ActionRefused, match=r"would fail again \(email_form\): email: \[masked\].*--force"):
                await replay.start(pipeline_settings, Selection(ids=(invalid[0],)), "tester")
    assert await raw_records(pipeline_settings) == 38 + 38


async def test_of_two_jobs_only_one_takes_a_failure(pipeline_settings: Settings, engine: AsyncEngine) -> None:
    ids = await fail_records(pipeline_settings, engine, 3)
    assert (await replay.start(pipeline_settings, Selection(ids=tuple(ids[:2])), "one")).total == 2
    assert (await replay.start(pipeline_settings, ALL, "two")).total == 1
    with pytest.raises(ActionRefused, match="job 1"):
        await replay.start(pipeline_settings, Selection(ids=(ids[0],)), "three")


async def test_a_replayed_failure_is_settled_by_coverage_and_a_newer_row_supersedes_it(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    ids = await fail_records(pipeline_settings, engine, 2)
    for number, key in zip(ids, ("C0", "C1"), strict=True):
        await edit(pipeline_settings, number, "tester", payload=value_of(int(key[1:]), f"{key}@e.org"))
        await run_one(pipeline_settings, number)
    async with engine.begin() as connection:
        assert await settle(connection, 3) == 0
        for later, number in enumerate(ids):
            await take(connection, await listing.one(connection, number), later)
        assert await settle(connection, 3) == 2
        states = [(await listing.one(connection, number))["state"] for number in ids]
    assert states == ["stored", "superseded"]


async def test_a_replayed_failure_is_settled_by_the_coverage_of_the_epoch_that_it_was_sent_in(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    ids = await fail_records(pipeline_settings, engine, 2)
    await note_epochs(pipeline_settings)
    for number, key in zip(ids, ("C0", "C1"), strict=True):
        await edit(pipeline_settings, number, "tester", payload=value_of(int(key[1:]), f"{key}@e.org"))
        await run_one(pipeline_settings, number)
    async with engine.begin() as connection:
        taken, waiting = [await listing.one(connection, number) for number in ids]
        await take(connection, taken, 0)
    await begin_epoch(pipeline_settings)
    async with engine.begin() as connection:
        await cover(connection, waiting)
        assert await settle(connection, 3) == 1
        states = [(await listing.one(connection, number))["state"] for number in ids]
    assert states == ["stored", "replayed"], "the new topic's record at the same offset is another one"


async def test_a_replay_of_an_ended_epoch_does_not_overtake_a_later_failure_of_its_key(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    earlier, later = [(await fail_records(pipeline_settings, engine, 1))[0] for _ in range(2)]
    await note_epochs(pipeline_settings)
    for number in (earlier, later):
        await edit(pipeline_settings, number, "tester", payload=value_of(0, "c0@e.org"))
    await run_one(pipeline_settings, earlier)
    async with engine.begin() as connection:
        await take(connection, await listing.one(connection, earlier), 0)
        await connection.execute(text("UPDATE customers SET raw_timestamp = 9000000000000"))
    await begin_epoch(pipeline_settings)
    plan = await candidates.plan(pipeline_settings, Selection(ids=(later,)))
    assert [(line.expected, line.sent) for line in plan.lines] == [("valid", True)]


async def test_what_is_replayed_into_a_topic_that_was_created_again_is_not_covered_by_the_one_before(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    headers = {"headrace-source": "shop", "headrace-mapping": '{"email":"mail"}'}
    (number,) = await fail_records(pipeline_settings, engine, 1, raw_headers=headers)
    await note_epochs(pipeline_settings)
    async with engine.begin() as connection:
        failure = await listing.one(connection, number)
        place = {f"replayed_{name}": failure[name] for name in ("topic", "partition", "offset")}
        await cover(connection, place)
    await asyncio.to_thread(recreate, pipeline_settings, failure["topic"])
    await run_one(pipeline_settings, number)
    async with engine.begin() as connection:
        sent = await listing.one(connection, number)
        assert {name: sent[name] for name in place} == place
        assert await settle(connection, 3) == 0
        await take(connection, sent, 0)
        assert await settle(connection, 3) == 1


async def test_replays_into_several_topics_that_were_created_again_keep_their_places(
    pipeline_settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "LARGEST_STEP", 1)
    ids = [(await fail_records(pipeline_settings, engine, 1, dataset=name))[0] for name in ("customers", "records")]
    await edit(pipeline_settings, ids[0], "tester", payload=value_of(0, "c0@example.org"))
    await edit(pipeline_settings, ids[1], "tester", payload=b'{"source_id": "R0", "name": "Lamp"}')
    await note_epochs(pipeline_settings)
    for name in ("customers.raw", "records.raw"):
        await asyncio.to_thread(recreate, pipeline_settings, pipeline_settings.named(name))
    job = await replay.start(pipeline_settings, Selection(ids=tuple(ids)), "tester")
    assert (await replay.run(pipeline_settings, job.id, "tester")).sent == 2
    await note_epochs(pipeline_settings)  # as a sink does that meets the topics
    async with engine.begin() as connection:
        topics = [(await listing.one(connection, number))["replayed_topic"] for number in ids]
    assert topics == [pipeline_settings.named(name) for name in ("customers.raw", "records.raw")]


async def test_a_held_record_of_an_ended_epoch_counts_as_failed_in_its_run_once_it_is_discarded(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    (number,) = await fail_records(pipeline_settings, engine, 1, state="held", run_id="its run")
    await note_epochs(pipeline_settings)
    async with engine.begin() as connection:
        failure = await listing.one(connection, number)
        place = {"topic": failure["topic"], "partition": failure["partition"]}
        await connection.execute(insert(coverage).values(**place, held=1, ranges=text("'{[0,1)}'")))
        await connection.execute(insert(run_outcomes).values(**place, held=1, run_id="its run", updated_at=func.now()))
    await begin_epoch(pipeline_settings)
    async with engine.begin() as connection:
        await actions.discard(connection, [number], "tester", "test data")
    for table in (coverage, run_outcomes):
        async with engine.connect() as connection:
            (row,) = (await connection.execute(select(*(table.c[name] for name in OUTCOMES)))).mappings()
        assert {name: count for name, count in row.items() if count} == {"failed": 1}, table.name


async def begin_epoch(settings: Settings) -> None:
    """Make the raw topic of customers again, and let Postgres know: its epoch begins with its first record."""
    topic = settings.named("customers.raw")
    await asyncio.to_thread(recreate, settings, topic)
    producer = Producer(producer_config(settings))
    producer.produce(topic, value_of(0, "new@example.org"), "C0", headers=HEADERS)
    await asyncio.to_thread(producer.flush)
    await note_epochs(settings)


async def cover(connection: Any, failure: Any) -> None:
    """Cover the coordinates that a failure was sent again with."""
    place = {"topic": failure["replayed_topic"], "p": failure["replayed_partition"], "o": failure["replayed_offset"]}
    await connection.execute(
        text(
            'INSERT INTO coverage (topic, "partition", ranges)'
            " VALUES (:topic, :p, int8multirange(int8range(:o, CAST(:o AS bigint) + 1)))"
            ' ON CONFLICT (topic, "partition") DO UPDATE SET ranges = coverage.ranges + excluded.ranges'
        ),
        place,
    )


async def take(connection: Any, failure: Any, later: int) -> None:
    """Cover a replayed record, with a row of its key that came `later` in its partition."""
    await cover(connection, failure)
    place = {"p": failure["replayed_partition"], "o": failure["replayed_offset"]}
    await connection.execute(
        text(
            "INSERT INTO customers (customer_id, first_name, last_name, email, search_text,"
            " version, raw_partition, raw_offset, raw_timestamp)"
            " VALUES (CAST(:key AS text), 'A', 'B', CAST(:key AS text) || '@e.org', '',"
            " 1, :p, :o + CAST(:later AS bigint), 0)"
        ),
        {"key": failure["key"], "p": place["p"], "o": place["o"], "later": later},
    )


async def run_one(settings: Settings, number: int) -> ReplayJob:
    queued = await replay.start(settings, Selection(ids=(number,)), "tester")
    job = await replay.run(settings, queued.id, "tester")
    assert (job.state, job.sent) == ("done", 1)
    return job


async def test_single_records_are_read_back_wherever_they_lie(pipeline_settings: Settings, engine: AsyncEngine) -> None:
    await fail_records(pipeline_settings, engine, 8000)
    topic = pipeline_settings.named("customers.raw")
    ends = await asyncio.to_thread(end_offsets, pipeline_settings, [topic])
    wanted: Sequence[tuple[str, int, int]] = [
        (topic, place.partition, offset) for place, end in ends.items() for offset in (0, 1, end // 2, end - 1)
    ]
    lookup = RawLookup(pipeline_settings)
    try:
        found = await asyncio.to_thread(lookup.read, [*wanted, (topic, 0, 10**9), (topic, 99, 0), ("nowhere", 0, 0)])
        again = await asyncio.to_thread(lookup.read, wanted[:1])
    finally:
        lookup.close()
    assert set(found) == set(wanted)
    assert all(json.loads(message.value or b"")["customer_id"].encode() == message.key for message in found.values())
    assert again == {wanted[0]: found[wanted[0]]}


async def states(engine: AsyncEngine) -> Counter[str]:
    async with engine.connect() as connection:
        return Counter((await connection.execute(select(ingest_failures.c.state))).scalars())


@pytest.mark.parametrize("rate", [5e-324, 0.0, -1.0, 1e9, float("inf"), float("nan")])
async def test_a_rate_that_is_none_is_refused_with_the_bounds_and_nothing_is_queued(
    engine: AsyncEngine, pipeline_settings: Settings, rate: float
) -> None:
    await fail_records(pipeline_settings, engine, 1)
    with pytest.raises(ActionRefused, match=r"from 0\.1 to 100,000"):
        await replay.start(pipeline_settings, ALL, "tester", rate=rate)
    assert await states(engine) == {"open": 1}


async def test_a_job_holds_no_connection_while_it_waits(pipeline_settings: Settings, engine: AsyncEngine) -> None:
    await fail_records(pipeline_settings, engine, 3)
    job = await replay.start(pipeline_settings, ALL, "tester", rate=replay_jobs.LOWEST_RATE)
    under_way = asyncio.Event()
    running = asyncio.create_task(replay.run(pipeline_settings, job.id, "tester", lambda _: under_way.set()))
    await under_way.wait()
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
    )

    async def alone() -> bool:
        async with engine.connect() as connection:
            return bool((await connection.execute(others)).scalar_one() == 0)

    await eventually_async(alone, what="nobody else is connected")
    async with engine.connect() as connection:
        assert (await replay_jobs.job(connection, job.id)).attended
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_bounded_number_of_jobs_is_under_way(pipeline_settings: Settings, engine: AsyncEngine) -> None:
    ids = await fail_records(pipeline_settings, engine, replay_jobs.MOST_UNDER_WAY + 1)
    jobs = [await replay.start(pipeline_settings, Selection(ids=(number,)), "tester") for number in ids[:-1]]
    with pytest.raises(ActionRefused, match="headrace failures cancel"):
        await replay.start(pipeline_settings, Selection(ids=(ids[-1],)), "tester")
    async with engine.begin() as connection:
        await replay_jobs.change_state(connection, jobs[0].id, "cancelled", "tester", replay_limit=3)
    assert (await replay.start(pipeline_settings, Selection(ids=(ids[-1],)), "tester")).total == 1


async def test_failures_queued_by_a_killed_process_are_open_again_and_its_job_can_go_on(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    await fail_records(pipeline_settings, engine, 2)
    await fail_records(pipeline_settings, engine, 1, state="parked", attempts=3)
    job = await replay.start(pipeline_settings, ALL, "tester", force=True)
    async with engine.begin() as connection:
        assert await replay_jobs.take_lease(connection, job.id, "one that is killed now")
        assert not await replay_jobs.take_lease(connection, job.id, "another")
        await settle(connection, 3)
    assert await states(engine) == {"queued": 3}
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE failure_replays SET attended_until = now() - interval '1 second'"))
        await settle(connection, 3)
        ended = await replay_jobs.job(connection, job.id)
    assert (ended.state, ended.attended) == ("interrupted", False)
    assert await states(engine) == {"open": 2, "parked": 1}
    done = await replay.run(pipeline_settings, job.id, "tester")
    assert (done.state, done.sent) == ("done", 3)


async def test_a_job_that_meets_an_error_fails_and_its_queued_failures_are_open_again(
    pipeline_settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    await fail_records(pipeline_settings, engine, 2)
    job = await replay.start(pipeline_settings, ALL, "tester")
    with monkeypatch.context() as patch:
        patch.setattr(candidates, "verdict_on", stumbles)
        with pytest.raises(RuntimeError):
            await replay.run(pipeline_settings, job.id, "tester")
    async with engine.begin() as connection:
        failed = await replay_jobs.job(connection, job.id)
    assert (failed.state, failed.attended) == ("failed", False)
    assert await states(engine) == {"open": 2}
    assert (await replay.run(pipeline_settings, job.id, "tester")).sent == 2


async def test_a_payload_too_large_for_kafka_is_refused_and_one_kept_earlier_stops_no_other(
    pipeline_settings: Settings, engine: AsyncEngine
) -> None:
    too_large, fine = await fail_records(pipeline_settings, engine, 2)
    payload = b'%b,"x":"%b"}' % (value_of(0)[:-1], b"x" * 12_000_000)
    with pytest.raises(CannotEdit, match=r"12,000,\d+ bytes.*5,242,880"):
        await edit(pipeline_settings, too_large, "tester", payload=payload, force=True)
    async with engine.begin() as connection:  # as earlier versions have kept it
        change = update(ingest_failures).where(ingest_failures.c.id == too_large)
        await connection.execute(change.values(edited_payload=payload, raw_headers={}))
    job = await replay.start(pipeline_settings, ALL, "tester")
    done = await replay.run(pipeline_settings, job.id, "tester")
    assert (done.state, done.sent, done.skipped) == ("done", 1, 1)
    async with engine.begin() as connection:
        assert [(await listing.one(connection, number))["state"] for number in (too_large, fine)] == [
            "open",
            "replayed",
        ]
        assert "size too large" in (await listing.history(connection, too_large))[-1]["note"]
