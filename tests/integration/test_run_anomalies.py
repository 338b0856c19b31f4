"""Runs are compared by what has landed of them; what is unusual is in the run, in /runs and in /stats."""

import asyncio
import datetime
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings
from services.runs.anomalies import Anomaly, examine_run
from services.runs.history import close_run, open_run
from services.runs.profile import MOST_RECORDS, sample
from stores.coverage import Outcome
from stores.postgres_engine import postgres_engine
from stores.tables import raw_api_data, raw_csv_data, run_profiles
from tests.integration.api_client import api_client

TOPIC = "records.raw"
RECORDS = 200


@pytest.fixture
async def engine(migrated_settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = postgres_engine(migrated_settings)
    yield engine
    await engine.dispose()


class Shop:
    """A source whose runs are done up to the books: landed, recorded, and to be examined."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._next = 0
        self._chance = random.Random(3)
        self.runs: list[str] = []

    async def runs_like(self, count: int, **more: Any) -> None:
        for _ in range(count):
            await self.run(**more)

    async def run(
        self, records: int = RECORDS, failed: int = 1, price: float = 20, table: Any = raw_api_data
    ) -> list[Anomaly]:
        wanted = await self.land(records, price, table)
        run_id = f"run-{len(self.runs)}"
        self.runs.append(run_id)
        outcome = Outcome(records - failed, failed, 0)
        async with self._engine.begin() as connection:
            await open_run(connection, run_id, "shop", "records", "run")
            await close_run(connection, run_id, published=records, outcome=outcome)
        return await examine_run(self._engine, run_id, "shop", "records", wanted, outcome)

    async def land(self, records: int, price: float, table: Any) -> dict[tuple[str, int], OffsetRanges]:
        offsets = range(self._next, self._next + records)
        self._next += records
        rows = [
            {
                "topic": TOPIC,
                "partition": offset % 2,
                "offset": offset,
                "payload": json.dumps({"id": offset, "price": f"{self._chance.gauss(price, 2):.2f}"}).encode(),
                "received_at": datetime.datetime.now(datetime.UTC),
            }
            for offset in offsets
        ]
        async with self._engine.begin() as connection:
            await connection.execute(insert(table), rows)
        ranges = {("records.raw", partition): OffsetRanges() for partition in (0, 1)}
        for offset in offsets:
            ranges[TOPIC, offset % 2].add(offset)
        return ranges


async def test_the_anomalies_of_a_run_are_kept_with_it_and_shown_in_stats(
    engine: AsyncEngine, migrated_settings: Settings
) -> None:
    shop = Shop(engine)
    await shop.runs_like(6)
    found = await shop.run(records=60, failed=30, price=90)
    names = {(one.feature, one.field) for one in found}
    assert {("records", None), ("failure_rate", None), ("median", "price")} <= names
    async with api_client(migrated_settings) as api:
        run = (await api.get(f"/runs/{shop.runs[-1]}")).json()
        usual = (await api.get(f"/runs/{shop.runs[-2]}")).json()
        stats = (await api.get("/stats")).json()
    assert {(one["feature"], one["field"]) for one in run["anomalies"]} == names
    assert usual["anomalies"] == []
    assert stats["sources"]["shop"]["anomalies"] == run["anomalies"]
    assert {one["source"] for one in stats["anomalies"]} == {"shop"}
    # Examined again it is not compared with itself, and keeps what was found.
    again = await examine_run(engine, shop.runs[-1], "shop", "records", {}, Outcome(0, 0, 0))
    assert again == found


async def test_rows_of_csv_files_and_records_of_apis_are_profiled_alike(engine: AsyncEngine) -> None:
    shop = Shop(engine)
    await shop.runs_like(6, table=raw_csv_data)
    assert {(one.feature, one.field) for one in await shop.run(price=90)} >= {("median", "price")}
    async with engine.connect() as connection:
        sampled = set((await connection.execute(select(run_profiles.c.sampled))).scalars())
    assert sampled == {RECORDS}


async def test_a_large_run_is_sampled_and_a_sample_takes_a_moment(engine: AsyncEngine) -> None:
    wanted = await Shop(engine).land(3 * MOST_RECORDS, 20, raw_api_data)
    await sample(engine, wanted)
    started = time.monotonic()
    assert len(await sample(engine, wanted)) == MOST_RECORDS
    assert time.monotonic() - started < 2


async def test_a_sample_waits_while_records_land_and_ends_when_none_do(engine: AsyncEngine) -> None:
    shop = Shop(engine)
    wanted = await shop.land(10, 20, raw_api_data)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE kept AS SELECT * FROM raw_api_data"))
        await connection.execute(text("TRUNCATE raw_api_data"))
    waiting = asyncio.create_task(sample(engine, wanted))
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO raw_api_data SELECT * FROM kept"))
    assert len(await waiting) == 10
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM raw_api_data WHERE partition = 0"))
    assert len(await sample(engine, wanted)) == 5
