"""A reprocessed record replaces what its own raw record has stored, and nothing newer; coverage counts it apart."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime.settings import Settings
from schemas.events import ChangeEvent, CleanRecord, FailedRecord, Origin
from tests.integration.postgres_sink_driver import Driver, changes, customer, driver, order


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


def anew(record: CleanRecord, job: str = "j1") -> CleanRecord:
    return msgspec.structs.replace(record, reprocess=job)


def deletion(key: str, offset: int) -> CleanRecord:
    return CleanRecord(key, Origin("customers.raw", 0, offset, 1_000 + offset), data=msgspec.Raw(b"null"))


async def booked(sink: Driver, apart: bool) -> dict[str, int]:
    """Outcomes in the books of the raw topics, or in those apart."""
    row = await sink.connection.fetchrow(
        "SELECT sum(inserted)::int inserted, sum(updated)::int updated, sum(unchanged)::int unchanged,"
        " sum(superseded)::int superseded, sum(deleted)::int deleted, sum(failed)::int failed, sum(held)::int held"
        " FROM coverage WHERE starts_with(topic, '#') = $1",
        apart,
    )
    return {name: count for name, count in row.items() if count}


async def test_a_reprocessed_record_replaces_its_own_row_once_per_job_and_is_counted_apart(sink: Driver) -> None:
    await sink.write(customer("C1", 0, last_name="Wrong"), customer("C2", 1))
    before = (await sink.row("C1"))["version"]
    for _ in range(2):
        sent = changes(await sink.write(anew(customer("C1", 0)), anew(customer("C2", 1))))
        row = await sink.row("C1")
        assert (row["last_name"], row["raw_offset"]) == ("Lovelace", 0)
        assert sent["C1"].version == row["version"] > before, "its event is published again after a crash"
    assert await booked(sink, apart=False) == {"inserted": 2}
    assert await booked(sink, apart=True) == {"updated": 1, "unchanged": 1}
    await sink.write(anew(customer("C1", 0), "j2"))
    assert await booked(sink, apart=True) == {"updated": 1, "unchanged": 2}


async def test_newer_rows_and_deletes_win_over_reprocessed_records(sink: Driver) -> None:
    await sink.write(customer("C1", 0), customer("C2", 1))
    await sink.write(customer("C1", 2, last_name="Newer"), deletion("C2", 3))
    assert changes(await sink.write(anew(customer("C1", 0)), anew(customer("C2", 1)))) == {}
    assert (await sink.row("C1"))["last_name"] == "Newer"
    assert await sink.row("C2") is None
    assert await booked(sink, apart=True) == {"superseded": 2}


async def test_a_delete_that_comes_again_keeps_its_key_deleted_after_its_tombstone_was_forgotten(sink: Driver) -> None:
    await sink.write(customer("C1", 0), deletion("C1", 1))
    await sink.connection.execute("DELETE FROM tombstones")
    await sink.write(anew(deletion("C1", 1)))
    await sink.write(anew(customer("C1", 0)))
    assert await sink.row("C1") is None
    assert await booked(sink, apart=True) == {"deleted": 1, "superseded": 1}


async def test_where_the_first_record_wins_a_reprocessed_one_replaces_its_own_row_only(sink: Driver) -> None:
    await sink.write(order("O1", 0, product="Wrong"), order("O1", 1, product="Later"))
    await sink.write(anew(order("O1", 0)), anew(order("O1", 1, product="Later still")))
    assert await sink.connection.fetchval("SELECT product FROM orders") == "Pen"
    assert await booked(sink, apart=True) == {"updated": 1, "superseded": 1}


async def test_a_record_with_another_key_leaves_no_row_under_the_old_one(sink: Driver) -> None:
    await sink.write(customer("K", 0, last_name="First"), customer("K", 1, email="l@example.org"))
    sent = changes(await sink.write(anew(customer("L", 1))))
    assert await sink.row("K") is None
    assert (await sink.row("L"))["raw_offset"] == 1
    told = await sink.connection.fetchrow("SELECT key, version, event FROM outbox")
    event = msgspec.json.decode(told["event"], type=ChangeEvent)
    assert (told["key"], event.op, list(sent)) == ("K", "deleted", ["L"])
    assert (await sink.connection.fetchval("SELECT version FROM tombstones WHERE key = 'K'")) == event.version
    revived = changes(await sink.write(anew(customer("K", 0, last_name="First"))))["K"]
    assert (await sink.row("K"))["last_name"] == "First"
    assert revived.version > event.version
    assert await booked(sink, apart=True) == {"inserted": 2}


async def test_what_postgres_refuses_keeps_its_row_and_its_neighbours_go_through(sink: Driver) -> None:
    await sink.write(customer("C1", 0), customer("C2", 1), customer("C3", 2, last_name="Wrong"))
    taken: dict[str, Any] = {"email": "c1@example.org"}
    await sink.write(anew(customer("C2", 1, **taken)), anew(customer("C3", 2)))
    await sink.write(anew(customer("C9", 1, **taken), "j2"))
    assert (await sink.row("C2"))["email"] == "c2@example.org"
    assert (await sink.row("C3"))["last_name"] == "Lovelace"
    assert await sink.row("C9") is None
    assert await booked(sink, apart=True) == {"updated": 1, "failed": 2}
    assert (await booked(sink, apart=False), await sink.failures()) == ({"inserted": 3}, [])


async def test_a_failed_record_that_is_reprocessed_has_another_outcome_unless_somebody_has_acted_on_it(
    sink: Driver,
) -> None:
    def failure(offset: int) -> FailedRecord:
        origin = Origin("customers.raw", 0, offset, 1_000 + offset)
        return FailedRecord(
            "customers", "normalizer", "email_form", "m", origin, 5_000, key=f"C{offset}", payload=b"{}"
        )

    await sink.write(customer("C9", 9), *map(failure, range(4)))
    await sink.connection.execute("UPDATE ingest_failures SET state = 'discarded' WHERE \"offset\" = 2")
    taken = anew(customer("C3", 3, email="c9@example.org"))
    for _ in range(2):
        await sink.write(anew(customer("C0", 0)), anew(customer("C1", 1)), taken)
    assert await booked(sink, apart=False) == {"inserted": 3, "failed": 2}
    assert await booked(sink, apart=True) == {"inserted": 2, "failed": 1}
    rows = await sink.connection.fetch('SELECT "offset", state FROM ingest_failures ORDER BY 1')
    assert [tuple(row) for row in rows] == [(0, "released"), (1, "released"), (2, "discarded"), (3, "open")]
    await sink.write(failure(0))
    assert await booked(sink, apart=False) == {"inserted": 3, "failed": 2}, "a late copy changes nothing"
