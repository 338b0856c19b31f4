"""Orders in the Postgres sink: the first record of an order_id is the order, whatever comes late, twice or after."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime.settings import Settings
from schemas.events import DELETED, CleanRecord
from tests.integration.postgres_sink_driver import Driver, changes, driver, order


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


def delete(key: str, offset: int, **place: int) -> CleanRecord:
    return CleanRecord(key, order(key, offset, **place).origin, msgspec.Raw(DELETED))


async def product(sink: Driver, key: str = "O1") -> str | None:
    found: str | None = await sink.connection.fetchval("SELECT product FROM orders WHERE order_id = $1", key)
    return found


async def test_a_later_record_of_a_stored_order_is_superseded_and_the_row_announced_again(sink: Driver) -> None:
    first = changes(await sink.write(order("O1", 0, product="Pen")))["O1"]
    before = await sink.connection.fetchrow("SELECT * FROM orders")
    again = changes(await sink.write(order("O1", 1, product="Mouse")))["O1"]
    assert await sink.connection.fetchrow("SELECT * FROM orders") == before
    assert (again.version, msgspec.json.decode(again.data)) == (first.version, msgspec.json.decode(first.data))
    assert await sink.counts() == {"inserted": 1, "superseded": 1}
    assert await sink.covered(topic="orders.raw") == "{[0,2)}"


async def test_a_later_record_with_the_same_content_is_superseded_too(sink: Driver) -> None:
    await sink.write(order("O1", 0))
    await sink.write(order("O1", 1))
    assert await sink.connection.fetchval("SELECT raw_offset FROM orders") == 0
    assert await sink.counts() == {"inserted": 1, "superseded": 1}


async def test_within_a_batch_the_oldest_of_a_key_wins_and_every_record_counts_once(sink: Driver) -> None:
    await sink.write(*(order("O1", n, product=f"P{n}") for n in (2, 4, 1, 3)))
    assert await product(sink) == "P1"
    assert await sink.counts() == {"inserted": 1, "superseded": 3}


async def test_an_older_record_that_comes_late_takes_the_place_of_the_row(sink: Driver) -> None:
    late = changes(await sink.write(order("O1", 5, product="Second")))["O1"]
    told = changes(await sink.write(order("O1", 4, product="First")))["O1"]
    assert await product(sink) == "First"
    assert told.version > late.version
    assert await sink.counts() == {"inserted": 1, "updated": 1}


async def test_any_order_of_delivery_ends_in_the_same_row(sink: Driver) -> None:
    arrivals = [order("O1", n, product=f"P{n}") for n in range(4)]
    for permutation in itertools.permutations(arrivals):
        await sink.connection.execute("TRUNCATE orders, coverage")
        for arrival in permutation:
            await sink.write(arrival)
        row = await sink.connection.fetchrow("SELECT * FROM orders")
        assert (row["product"], row["raw_offset"]) == ("P0", 0)
        assert sum((await sink.counts()).values()) == 4


async def test_across_partitions_the_brokers_time_decides_which_was_first(sink: Driver) -> None:
    await sink.write(order("O1", 90, partition=0, timestamp=2_000, product="Later"))
    await sink.write(order("O1", 3, partition=1, timestamp=1_000, product="Earlier"))
    await sink.write(order("O1", 0, partition=2, timestamp=1_500, product="Between"))
    assert await product(sink) == "Earlier"


async def test_a_batch_that_is_delivered_again_by_a_zombie_changes_nothing(sink: Driver) -> None:
    history = [order("O1", 0, product="First"), delete("O1", 1), order("O1", 2, product="Anew"), order("O1", 3)]
    await sink.write(*history)
    before = await sink.connection.fetch("SELECT * FROM orders"), await sink.counts()
    for start in range(4):
        await sink.write(*history[start:])
        assert (await sink.connection.fetch("SELECT * FROM orders"), await sink.counts()) == before


@pytest.mark.parametrize("cuts", list(itertools.product((True, False), repeat=3)), ids=str)
async def test_after_a_delete_the_next_record_is_the_first_however_the_batches_are_cut(
    sink: Driver, cuts: tuple[bool, ...]
) -> None:
    history = [order("O1", 0, product="Old"), delete("O1", 1), order("O1", 2, product="New"), order("O1", 3)]
    batches: list[list[CleanRecord]] = [[history[0]]]
    for record, cut in zip(history[1:], cuts, strict=True):
        batches = [*batches, [record]] if cut else [*batches[:-1], [*batches[-1], record]]
    told: dict[str, Any] = {}
    for batch in batches:
        told |= changes(await sink.write(*batch))
    assert await product(sink) == "New"
    row = await sink.connection.fetchrow("SELECT version FROM orders")
    assert (told["O1"].op, told["O1"].version) == ("stored", row["version"])
    counts = await sink.counts()
    assert sum(counts.values()) == 4
    assert counts["deleted"] == 1


async def test_a_deleted_order_stays_deleted_when_older_records_come_late(sink: Driver) -> None:
    await sink.write(delete("O1", 5))
    told = changes(await sink.write(order("O1", 4)))["O1"]
    assert await product(sink) is None
    assert told.op == "deleted"
    assert await sink.counts() == {"deleted": 1, "superseded": 1}


async def test_a_record_from_before_a_delete_does_not_take_the_place_of_the_row_after_it(sink: Driver) -> None:
    await sink.write(delete("O1", 5, timestamp=5_000), order("O1", 6, timestamp=6_000, product="After"))
    await sink.write(order("O1", 0, partition=1, timestamp=1_000, product="Before"))
    assert await product(sink) == "After"
    assert await sink.counts() == {"inserted": 1, "deleted": 1, "superseded": 1}


async def test_a_delete_that_comes_late_leaves_a_newer_row_and_keeps_older_records_out(sink: Driver) -> None:
    await sink.write(order("O1", 6, product="After"))
    told = changes(await sink.write(delete("O1", 5)))["O1"]
    assert told.op == "stored"
    await sink.write(order("O1", 4, product="Before"))
    assert await product(sink) == "After"
    assert await sink.counts() == {"inserted": 1, "superseded": 2}


async def test_a_row_is_announced_again_as_it_was_announced_first(sink: Driver) -> None:
    first = changes(await sink.write(order("O1", 0, quantity=3)))["O1"]
    again = changes(await sink.write(order("O1", 0, quantity=3)))["O1"]
    assert msgspec.json.decode(again.data) == msgspec.json.decode(first.data)
    assert msgspec.json.decode(again.data)["quantity"] == 3
