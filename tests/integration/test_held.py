"""A held record keeps its place: whatever arrives under its coordinates is its outcome in the Postgres sink, once."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings
from schemas.events import HEADER_SOURCE, CleanRecord, FailedRecord, Origin
from services.failures import actions
from services.failures.selection import Selection
from stores.coverage import outcome
from stores.postgres_engine import postgres_engine
from tests.integration.postgres_sink_driver import Driver, customer, driver, order


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


@pytest.fixture
async def engine(migrated_settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = postgres_engine(migrated_settings)
    yield engine
    await engine.dispose()


def reported(offset: int, *, held: bool = True, topic: str = "customers.raw", reason: str = "required") -> FailedRecord:
    return FailedRecord(
        topic.partition(".")[0], "normalizer", reason, "m", Origin(topic, 0, offset, 1_000 + offset), 5_000,
        key="C1", payload=b"{}", source="shop", held=held, headers={HEADER_SOURCE: "shop"} if held else None,
    )  # fmt: skip


async def states(sink: Driver) -> list[tuple[int, str, str]]:
    rows = await sink.connection.fetch('SELECT "offset", state, reason FROM ingest_failures ORDER BY "offset"')
    return [tuple(row) for row in rows]


async def test_a_held_record_is_covered_and_counted_once_however_often_it_comes(sink: Driver) -> None:
    for _ in range(2):
        await sink.write(reported(0), reported(1), reported(1))
    assert await sink.counts() == {"held": 2}
    assert await sink.covered() == "{[0,2)}"
    assert await states(sink) == [(0, "held", "required"), (1, "held", "required")]


async def test_a_record_that_arrives_later_is_the_outcome_of_a_held_one_once(sink: Driver) -> None:
    await sink.write(reported(0), reported(1), reported(2), reported(3))
    for _ in range(2):
        await sink.write(customer("C1", 0), customer("C2", 1), reported(2, held=False, reason="email_form"))
    assert await sink.counts() == {"inserted": 2, "failed": 1, "held": 1}
    assert await sink.covered() == "{[0,4)}"
    ended = [(0, "released", "required"), (1, "released", "required"), (2, "open", "email_form")]
    assert await states(sink) == [*ended, (3, "held", "required")]
    await sink.write(reported(0), reported(2))
    assert await sink.counts() == {"inserted": 2, "failed": 1, "held": 1}, "a late copy changes nothing"


async def test_a_newer_record_wins_against_one_that_was_held(sink: Driver) -> None:
    await sink.write(reported(3))
    await sink.write(customer("C1", 5, first_name="Newer"))
    await sink.write(customer("C1", 3, first_name="Held"))
    row = await sink.row("C1")
    assert (row["first_name"], row["raw_offset"]) == ("Newer", 5)
    assert await sink.counts() == {"inserted": 1, "superseded": 1}


async def test_where_the_first_record_wins_one_that_was_held_takes_its_place(sink: Driver) -> None:
    await sink.write(reported(3, topic="orders.raw"), order("O1", 5, product="Later"))
    await sink.write(order("O1", 3, product="Held"))
    assert await sink.connection.fetchval("SELECT product FROM orders WHERE order_id = 'O1'") == "Held"


async def test_a_delete_that_was_held_does_not_delete_a_newer_record(sink: Driver) -> None:
    await sink.write(reported(3), customer("C1", 5))
    held = CleanRecord("C1", Origin("customers.raw", 0, 3, 1_003), data=msgspec.Raw(b"null"))
    await sink.write(held)
    assert (await sink.row("C1"))["raw_offset"] == 5
    assert await sink.counts() == {"inserted": 1, "superseded": 1}


async def test_a_released_record_that_postgres_refuses_has_failed(sink: Driver) -> None:
    await sink.write(reported(1), customer("C1", 0))
    await sink.write(customer("C2", 1, email="c1@example.org"))
    assert await sink.counts() == {"inserted": 1, "failed": 1}
    assert await states(sink) == [(1, "open", "email_conflict")]


async def test_a_run_counts_held_records_as_failed_and_released_ones_as_stored(
    sink: Driver, engine: AsyncEngine
) -> None:
    await sink.write(reported(0), reported(1))
    await sink.write(customer("C1", 0))
    wanted = {("customers.raw", 0): OffsetRanges([(0, 3)])}
    async with engine.connect() as connection:
        found = await outcome(connection, wanted)
    assert (found.stored, found.failed, found.pending) == (1, 1, 1)


async def test_discarding_moves_the_count_and_a_release_under_way_changes_nothing(
    sink: Driver, engine: AsyncEngine
) -> None:
    await sink.write(reported(0), reported(1), reported(2))
    async with engine.begin() as connection:
        assert await actions.discard_held(connection, Selection(sources=("nobody",)), "me", "why") == 0
        assert await actions.discard_held(connection, Selection(sources=("shop",)), "me", "why") == 3
        assert await actions.discard_held(connection, Selection(sources=("shop",)), "me", "why") == 0
    assert await sink.counts() == {"failed": 3}
    await sink.write(customer("C1", 0))
    assert await sink.counts() == {"failed": 3}
    assert await sink.row("C1") is None
