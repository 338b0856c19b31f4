"""Deletes in the Postgres sink: what is gone stays gone, whatever comes late, and what is newer lives."""

from itertools import permutations

import msgspec
import pytest

from runtime.settings import Settings
from schemas.events import DELETED, CleanRecord
from sinks.postgres.deletions import purge_tombstones
from tests.integration.postgres_sink_driver import Driver, changes, customer, driver, failures


def delete(key: str, offset: int, *, partition: int = 0) -> CleanRecord:
    origin = customer(key, offset, partition=partition).origin
    return CleanRecord(key, origin, msgspec.Raw(DELETED))


async def tombstones(postgres: Driver) -> list[str]:
    return [row["key"] for row in await postgres.connection.fetch("SELECT key FROM tombstones ORDER BY key")]


async def test_a_delete_removes_the_row_and_tells_the_followers_with_a_higher_version(
    migrated_settings: Settings,
) -> None:
    async with driver(migrated_settings) as postgres:
        stored = changes(await postgres.write(customer("C1", 0)))["C1"]
        deleted = changes(await postgres.write(delete("C1", 1)))["C1"]
        assert await postgres.row("C1") is None
        assert (deleted.op, bytes(deleted.data)) == ("deleted", DELETED)
        assert deleted.version > stored.version
        assert await postgres.counts() == {"inserted": 1, "deleted": 1}
        assert await postgres.covered() == "{[0,2)}"


async def test_a_late_older_record_does_not_bring_a_deleted_one_back(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(delete("C1", 5))
        told = changes(await postgres.write(customer("C1", 4)))
        assert await postgres.row("C1") is None
        assert told["C1"].op == "deleted"
        assert await postgres.counts() == {"deleted": 1, "superseded": 1}


async def test_a_newer_record_lives_and_the_tombstone_goes(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        deleted = changes(await postgres.write(delete("C1", 5)))["C1"]
        reborn = changes(await postgres.write(customer("C1", 6)))["C1"]
        assert reborn.version > deleted.version
        assert await postgres.row("C1") is not None
        assert await tombstones(postgres) == []


async def test_a_late_delete_leaves_a_newer_row_alone(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(customer("C1", 5))
        told = changes(await postgres.write(delete("C1", 4)))
        assert (await postgres.row("C1"))["raw_offset"] == 5
        assert told["C1"].op == "stored"
        assert await tombstones(postgres) == []
        assert await postgres.counts() == {"inserted": 1, "superseded": 1}


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
async def test_every_order_of_processing_ends_the_same(migrated_settings: Settings, order: tuple[int, ...]) -> None:
    history = [customer("C1", 0), delete("C1", 1), customer("C1", 2, first_name="Grace"), delete("C1", 3)]
    async with driver(migrated_settings) as postgres:
        for position in order:
            await postgres.write(history[position])
        assert await postgres.row("C1") is None
        assert await tombstones(postgres) == ["C1"]
        assert await postgres.covered() == "{[0,4)}"
        assert sum((await postgres.counts()).values()) == 4


async def test_a_repeated_delete_changes_nothing_and_is_told_again(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(customer("C1", 0))
        first = changes(await postgres.write(delete("C1", 1)))["C1"]
        again = changes(await postgres.write(delete("C1", 1)))["C1"]
        assert (again.op, again.version) == (first.op, first.version)
        assert await postgres.counts() == {"inserted": 1, "deleted": 1}


async def test_a_delete_frees_its_unique_value_for_a_record_of_the_same_batch(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(customer("C1", 0, email="same@example.org"))
        told = await postgres.write(delete("C1", 1), customer("C2", 2, email="same@example.org"))
        assert failures(told) == []
        assert await postgres.row("C1") is None
        assert (await postgres.row("C2"))["email"] == "same@example.org"


async def test_within_a_batch_the_last_record_or_delete_of_a_key_counts(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(customer("C1", 0), delete("C1", 1), customer("C2", 2), delete("C3", 3), customer("C3", 4))
        assert await postgres.row("C1") is None
        assert await postgres.row("C2") is not None
        assert await postgres.row("C3") is not None
        assert await postgres.counts() == {"inserted": 2, "deleted": 1, "superseded": 2}


async def test_old_tombstones_are_forgotten(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(delete("C1", 0), delete("C2", 1))
        await postgres.connection.execute(
            "UPDATE tombstones SET deleted_at = now() - interval '3 hours' WHERE key = 'C1'"
        )
        await purge_tombstones(postgres.connection, 2)
        assert await tombstones(postgres) == ["C2"]


async def test_a_row_that_others_refer_to_fails_to_be_deleted_alone(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(*(customer(f"C{number}", number) for number in range(1, 5)))
        await postgres.connection.execute(
            "CREATE TABLE invoices (customer_id text REFERENCES customers); INSERT INTO invoices VALUES ('C2')"
        )
        told = await postgres.write(*(delete(f"C{number}", 10 + number) for number in range(1, 4)), customer("C4", 14))
        assert {key: change.op for key, change in changes(told).items()} == {
            "C1": "deleted",
            "C3": "deleted",
            "C4": "stored",
        }
        assert await postgres.failures() == [("C2", "postgres_refused")]
        [failed] = failures(told)
        assert "invoices" in failed.message
        assert await postgres.row("C2") is not None
        assert await tombstones(postgres) == ["C1", "C3"]
        assert await postgres.counts() == {"inserted": 4, "deleted": 2, "unchanged": 1, "failed": 1}
