"""The counts of stored rows are what `count(*)` says, in every snapshot, whoever writes and however it ends."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.queries.written_rows import KeyTaken, delete_row, insert_row, update_row
from runtime.settings import Settings
from schemas.events import DELETED, CleanRecord
from schemas.registry import all_datasets, dataset_named
from sinks.postgres.arrivals import Arrival
from sinks.postgres.merge import DatasetMerge, Merged
from sinks.postgres.sink import PostgresSink
from stores.migrate import migrate
from stores.postgres_engine import postgres_engine
from stores.row_counts import rows_stored
from tests.integration.postgres_sink_driver import Driver, customer, driver, order, record

TABLES = [dataset.table for dataset in all_datasets()]
USERS = dataset_named("users")


class GivenUp(Exception):
    """Ends a transaction that has written."""


class GivingUp(PostgresSink):
    """Gives some of its transactions up when it has written."""

    def __init__(self, settings: Settings, chance: random.Random) -> None:
        super().__init__(settings)
        self._chance = chance

    async def merge(self, merge: DatasetMerge, arrivals: list[Arrival]) -> Merged:
        merged = await super().merge(merge, arrivals)
        if self._chance.random() < 0.2:
            raise GivenUp
        return merged


@pytest.fixture
async def connection(migrated_settings: Settings) -> AsyncIterator[AsyncConnection]:
    engine = postgres_engine(migrated_settings, isolation_level="REPEATABLE READ")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


async def numbers(connection: AsyncConnection) -> dict[str, int]:
    """The rows of every table that has any, as counted in one snapshot, which are the rows that it has."""
    async with connection.begin():
        kept = {table: await rows_stored(connection, table) for table in TABLES}
        for table in TABLES:
            counted = await connection.execute(text(f'SELECT count(*) FROM "{table}"'))  # noqa: S608
            assert kept[table] == counted.scalar_one(), table
    return {table: rows for table, rows in kept.items() if rows}


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_two_sinks_and_the_api_do_at_once_every_snapshot_is_counted(
    migrated_settings: Settings, connection: AsyncConnection, seed: int
) -> None:
    async with driver(migrated_settings) as one, driver(migrated_settings) as other:
        writing = asyncio.gather(
            write_at_random(one, 0, random.Random(seed)),
            write_at_random(other, 1, random.Random(1_000 + seed)),
            write_users_at_random(migrated_settings, random.Random(2_000 + seed)),
        )
        seen = set()
        while not writing.done():
            seen.add(tuple((await numbers(connection)).items()))
            await asyncio.sleep(0)
        await writing
    assert len(seen) > 1
    assert set(await numbers(connection)) == {"customers", "orders", "normalized_data", "users"}


async def write_at_random(sink: Driver, partition: int, chance: random.Random) -> None:
    """Batches of a partition of its own, of keys that the other one has too: inserts, updates, deletes and repeats."""
    sent: list[CleanRecord] = []
    sink.sink = GivingUp(sink.settings, chance)
    for batch in range(40):
        items = [one_of(chance, partition, 10 * batch + number) for number in range(chance.randint(1, 10))]
        sent += items
        items += chance.sample(sent, min(2, len(sent)))
        while True:
            try:
                await sink.write(*items)
            except (asyncpg.DeadlockDetectedError, GivenUp):
                continue  # as the runner does: the batch comes again
            break


def one_of(chance: random.Random, partition: int, offset: int) -> CleanRecord:
    what, number = chance.random(), chance.randrange(20)
    if what < 0.2:
        made = order(f"O{number}", offset, partition=partition)
    elif what < 0.3:
        made = record(f"{partition}-{number}", offset)
        return msgspec.structs.replace(made, origin=msgspec.structs.replace(made.origin, partition=partition))
    else:
        # Few addresses: some are contested, so that parts of a batch are undone, and claims are settled later.
        made = customer(f"C{number}", offset, partition=partition, email=f"{chance.randrange(30)}@example.org")
    return msgspec.structs.replace(made, data=msgspec.Raw(DELETED)) if chance.random() < 0.3 else made


async def write_users_at_random(settings: Settings, chance: random.Random) -> None:
    engine = postgres_engine(settings)
    for _ in range(100):
        email, other = (f"u{chance.randrange(10)}@example.org" for _ in range(2))
        what = chance.random()
        try:
            async with engine.begin() as connection:
                if what < 0.5:
                    await insert_row(connection, USERS, {"name": "Ada", "email": email, "role": "user"})
                elif what < 0.75:
                    await update_row(connection, USERS, email, {"email": other})
                else:
                    await delete_row(connection, USERS, email)
                if chance.random() < 0.2:
                    raise GivenUp
        except (KeyTaken, GivenUp):
            continue
    async with engine.begin() as connection:
        await insert_row(connection, USERS, {"name": "Eve", "email": "eve@example.org", "role": "user"})
    await engine.dispose()


async def test_two_sinks_do_not_wait_for_each_other_to_count(migrated_settings: Settings, sink: Driver) -> None:
    async with driver(migrated_settings) as other:
        await sink.write(customer("C1", 0, partition=0))
        await other.write(customer("C2", 0, partition=1))
        await other.connection.execute("SET lock_timeout = '1s'")
        async with sink.connection.transaction():
            await sink.write(customer("C3", 1, partition=0))
            await other.write(customer("C4", 1, partition=1))  # would raise LockNotAvailableError


async def test_what_somebody_does_at_a_prompt_is_counted_too(sink: Driver, connection: AsyncConnection) -> None:
    await sink.write(*(customer(f"C{number}", number) for number in range(10)))
    execute = sink.connection.execute
    await execute("DELETE FROM customers WHERE customer_id < 'C3'")
    assert await numbers(connection) == {"customers": 7}
    await execute("CREATE TEMP TABLE kept AS TABLE customers")
    await execute("DELETE FROM customers")
    assert await numbers(connection) == {}
    await execute("INSERT INTO customers TABLE kept")
    assert await numbers(connection) == {"customers": 7}
    await execute("TRUNCATE customers")
    assert await numbers(connection) == {}
    await sink.write(customer("C1", 100))
    assert await numbers(connection) == {"customers": 1}


async def test_set_up_counts_what_is_stored_already_and_says_so(
    migrated_settings: Settings, sink: Driver, connection: AsyncConnection
) -> None:
    await sink.write(*(customer(f"C{number}", number) for number in range(5)), order("O1", 0))
    await sink.connection.execute("DROP FUNCTION count_stored_rows CASCADE; DROP TABLE row_counts")
    await sink.write(customer("C5", 5))
    report = await asyncio.to_thread(migrate, migrated_settings)
    assert "customers: rows are counted as they are written" in report.changes
    assert await numbers(connection) == {"customers": 6, "orders": 1}
    await sink.write(customer("C6", 6))
    assert await numbers(connection) == {"customers": 7, "orders": 1}
    assert not (await asyncio.to_thread(migrate, migrated_settings)).changes
