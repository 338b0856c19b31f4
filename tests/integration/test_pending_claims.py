"""Claims on an e-mail address that another customer holds wait until they can be had, on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings
from schemas.events import DELETED, CleanRecord
from services.failures import actions, editing, replay_jobs
from services.failures.selection import Selection
from services.renormalizing import RawRecord
from stores.coverage import outcome
from stores.failure_states import ActionRefused
from stores.postgres_engine import postgres_engine
from tests.integration.postgres_sink_driver import Driver, batch_of, changes, customer, driver, failures
from tests.waiting import eventually_async


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


@pytest.fixture
async def other(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


@pytest.fixture
async def engine(migrated_settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = postgres_engine(migrated_settings)
    yield engine
    await engine.dispose()


def put(key: str, offset: int, address: str, *, partition: int = 0, **fields: Any) -> CleanRecord:
    return customer(key, offset, partition=partition, email=f"{address}@example.org", **fields)


def delete(key: str, offset: int) -> CleanRecord:
    return CleanRecord(key, customer(key, offset).origin, msgspec.Raw(DELETED))


async def addresses(sink: Driver) -> dict[str, str]:
    rows = await sink.connection.fetch("SELECT customer_id, email FROM customers ORDER BY customer_id")
    return {row["customer_id"]: row["email"].partition("@")[0] for row in rows}


async def states(sink: Driver) -> dict[int, str]:
    rows = await sink.connection.fetch('SELECT "offset", state FROM ingest_failures ORDER BY "offset"')
    return {row["offset"]: row["state"] for row in rows}


async def test_a_swap_of_addresses_goes_through_within_a_batch_and_across_batches(
    sink: Driver, engine: AsyncEngine
) -> None:
    await sink.write(put("A", 0, "x"), put("B", 1, "y"))
    outgoing = await sink.write(put("A", 2, "y"), put("B", 3, "x"))
    assert await addresses(sink) == {"A": "y", "B": "x"}
    assert failures(outgoing) == []
    [failed] = failures(await sink.write(put("A", 4, "x")))
    assert failed.reason == "email_conflict"
    assert await addresses(sink) == {"A": "y", "B": "x"}
    outgoing = await sink.write(put("B", 5, "y"))
    assert await addresses(sink) == {"A": "x", "B": "y"}
    told = changes(outgoing)
    assert {key: event.version for key, event in told.items()} == {
        key: (await sink.row(key))["version"] for key in "AB"
    }
    assert failures(outgoing) == [], "what is settled at once is reported to nobody"
    assert await sink.counts() == {"inserted": 2, "updated": 4}
    assert await sink.covered() == "{[0,6)}"
    async with engine.connect() as connection:
        found = await outcome(connection, {("customers.raw", 0): OffsetRanges([(0, 6)])})
    assert (found.stored, found.failed, found.pending) == (6, 0, 0)


async def test_an_address_that_was_claimed_before_it_was_free_is_taken_once_it_is_free(sink: Driver) -> None:
    await sink.write(put("A", 0, "x"), put("B", 1, "y"), put("C", 2, "z"))
    conflict = put("B", 3, "x")
    await sink.write(conflict, put("C", 4, "y"))
    assert await addresses(sink) == {"A": "x", "B": "y", "C": "z"}
    before = await sink.row("B")
    told = changes(await sink.write(put("A", 5, "w")))
    assert await addresses(sink) == {"A": "w", "B": "x", "C": "y"}
    assert set(told) == {"A", "B", "C"}
    row = await sink.row("B")
    assert (row["raw_offset"], row["created_at"]) == (3, before["created_at"])
    assert row["version"] > before["version"]
    assert await states(sink) == {3: "resolved", 4: "resolved"}
    traces = await sink.connection.fetch("SELECT action, who, note FROM failure_actions")
    assert [tuple(trace) for trace in traces] == [("resolved", "headrace", "updated")] * 2
    assert failures(await sink.write(conflict)) == [], "a repeat of it is no failure any more"
    assert await sink.counts() == {"inserted": 3, "updated": 3}


async def test_a_ring_of_addresses_whose_last_record_comes_late_moves_all_at_once(sink: Driver) -> None:
    keys = [f"C{number}" for number in range(6)]
    await sink.write(*(put(key, n, f"a{n}") for n, key in enumerate(keys)))
    for n, key in enumerate(keys):
        await sink.write(put(key, 10 + n, f"a{(n + 1) % 6}"))
    assert await addresses(sink) == {key: f"a{(n + 1) % 6}" for n, key in enumerate(keys)}
    assert await sink.counts() == {"inserted": 6, "updated": 6}


async def test_a_real_conflict_stays_a_failure_until_its_holder_goes(sink: Driver) -> None:
    await sink.write(put("A", 0, "x"))
    await sink.write(put("B", 1, "x"), put("C", 2, "x"))
    await sink.write(put("A", 3, "x", first_name="Still"))
    assert await addresses(sink) == {"A": "x"}
    assert await states(sink) == {1: "open", 2: "open"}
    assert await sink.counts() == {"inserted": 1, "updated": 1, "failed": 2}
    await sink.write(delete("A", 4))
    assert await addresses(sink) == {"B": "x"}, "of those that wait, the first to arrive gets it"
    assert await states(sink) == {1: "resolved", 2: "open"}
    blocked = await sink.connection.fetchval("SELECT blocked_by FROM ingest_failures WHERE state = 'open'")
    assert blocked == "B"


async def test_a_newer_record_or_delete_of_its_key_ends_a_claim(sink: Driver) -> None:
    await sink.write(put("A", 0, "x"))
    await sink.write(put("B", 1, "x"), put("C", 2, "x"), put("D", 3, "x"))
    await sink.write(put("B", 4, "b"), delete("C", 5))
    assert await states(sink) == {1: "resolved", 2: "resolved", 3: "open"}
    assert await sink.counts() == {"inserted": 2, "superseded": 2, "deleted": 1, "failed": 1}
    await sink.write(put("A", 6, "a"))
    assert await addresses(sink) == {"A": "a", "B": "b", "D": "x"}


async def test_an_older_delete_that_comes_late_ends_no_claim(sink: Driver) -> None:
    await sink.write(put("A", 0, "x"), put("B", 1, "y"))
    await sink.write(put("B", 3, "x"))
    await sink.write(delete("B", 2))
    assert await addresses(sink) == {"A": "x"}
    await sink.write(put("A", 4, "a"))
    assert await addresses(sink) == {"A": "a", "B": "x"}
    assert await sink.connection.fetchval("SELECT count(*) FROM tombstones") == 0


async def test_only_the_newest_claim_of_a_key_is_taken_up(sink: Driver) -> None:
    await sink.write(put("A", 0, "x"), put("B", 1, "y"), put("C", 2, "z"))
    await sink.write(put("C", 3, "x"))
    await sink.write(put("C", 4, "y"))
    await sink.write(put("A", 5, "a"))
    assert await addresses(sink) == {"A": "a", "B": "y", "C": "z"}
    await sink.write(put("B", 6, "b"))
    assert await addresses(sink) == {"A": "a", "B": "b", "C": "y"}
    assert await sink.counts() == {"inserted": 3, "updated": 3, "superseded": 1}


async def test_what_somebody_has_decided_about_is_not_taken_up(sink: Driver, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for n, key in enumerate("ABC"):
            await sink.write(put(key, n, key), put(f"{key}2", 3 + n, key))
        ids = [row["id"] for row in await sink.connection.fetch("SELECT id FROM ingest_failures ORDER BY id")]
        await actions.discard(connection, [ids[0]], "me", "no")
        edited = RawRecord("customers.raw", 0, 4, 0, b"B2", b"{}", ())
        await editing.save(connection, ids[1], "me", before=None, edited=edited, note=None)
        job = await replay_jobs.create(connection, Selection(ids=(ids[2],)), "me", rate=None, forced=False)
    await sink.write(*(put(key, 10 + n, f"{key}3") for n, key in enumerate("ABC")))
    assert await addresses(sink) == {key: f"{key}3" for key in "ABC"}
    assert list((await states(sink)).values()) == ["discarded", "open", "queued"]
    async with engine.begin() as connection:
        await replay_jobs.change_state(connection, job.id, "cancelled", "me", replay_limit=3)
    await sink.write(put("D", 20, "d"))
    assert (await addresses(sink))["C2"] == "C", "what the job has left is a claim again"
    async with engine.connect() as connection:
        with pytest.raises(ActionRefused, match="resolved already"):
            await actions.discard(connection, [ids[2]], "me", "too late")


async def test_a_claim_and_what_frees_its_address_at_the_same_time_miss_no_wake_up(
    sink: Driver, other: Driver, migrated_settings: Settings
) -> None:
    await sink.write(put("A", 0, "x"), put("B", 0, "y", partition=1))
    async with _no_failures_written(migrated_settings) as waiting:
        # The one has judged that A holds the address, and not committed that; meanwhile the other frees it and looks.
        claiming = asyncio.create_task(other.write(put("B", 1, "x", partition=1)))
        await waiting()
        await sink.write(put("A", 1, "a"))
    await claiming
    assert await addresses(sink) == {"A": "a", "B": "x"}
    assert await sink.counts() == {"inserted": 2, "updated": 2}


async def test_a_claim_whose_next_blocker_goes_at_the_same_time_misses_no_wake_up(
    sink: Driver, other: Driver, migrated_settings: Settings
) -> None:
    await sink.write(put("A", 0, "x"), put("B", 0, "y", partition=1), put("D", 0, "d", partition=2))
    await sink.write(put("B", 1, "x", partition=1))
    async with _no_failures_written(migrated_settings) as waiting:
        # A hands the address on to D, which blocks the claim now; before that is committed, D frees it.
        handing = asyncio.create_task(sink.write(put("A", 1, "a"), put("D", 1, "x", partition=2)))
        await waiting()
        await other.write(put("D", 2, "e", partition=2))
    await handing
    assert await addresses(sink) == {"A": "a", "B": "x", "D": "e"}


class _no_failures_written:  # noqa: N801 (used as a function)
    """Until the block ends, whoever writes to `ingest_failures` waits; the block gets a way to wait for that."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.plain_database_url

    async def __aenter__(self) -> Any:
        connect: Any = asyncpg.connect
        self._connection = await connect(self._url)
        await self._connection.execute("BEGIN; LOCK TABLE ingest_failures IN SHARE MODE")
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ingest_failures'::regclass"

        async def waiting() -> None:
            await eventually_async(lambda: self._connection.fetchval(query), what="somebody waits")

        return waiting

    async def __aexit__(self, *_: object) -> None:
        await self._connection.execute("COMMIT")
        await self._connection.close()


async def test_rows_that_claims_have_moved_are_announced_until_the_broker_has_confirmed_it(
    pipeline_settings: Settings,
) -> None:
    async with driver(pipeline_settings) as sink:
        await sink.write(put("A", 0, "x"), put("B", 1, "y"))
        await sink.write(put("B", 2, "x"))
        freeing = put("A", 3, "a")
        # Committed, and then the sink dies: nothing is published, and the record that freed the address comes again.
        await sink.write(freeing)
        told = changes(await sink.write(freeing))
        assert {key: event.version for key, event in told.items()} == {
            key: (await sink.row(key))["version"] for key in "AB"
        }
        confirmed = await sink.sink.write(batch_of([freeing]))
        assert confirmed is not None
        await confirmed
        assert set(changes(await sink.write(freeing))) == {"A"}
        assert await sink.connection.fetchval("SELECT count(*) FROM ingest_failures WHERE claim IS NOT NULL") == 0
        await sink.sink.close()


async def test_all_addresses_moving_by_one_stop_no_sink(sink: Driver) -> None:
    count, part = 1_500, 500
    await sink.write(*(put(f"C{n:04}", n, f"a{n}") for n in range(count)))
    for start in range(0, count, part):
        await sink.write(*(put(f"C{n:04}", count + n, f"a{(n + 1) % count}") for n in range(start, start + part)))
    assert await addresses(sink) == {f"C{n:04}": f"a{(n + 1) % count}" for n in range(count)}
    assert await sink.counts() == {"inserted": count, "updated": count}
