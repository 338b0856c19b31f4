"""Coverage, as producers and the API read it."""

import asyncio

import msgspec
from msgspec.structs import replace

from runtime.kafka.offset_ranges import OffsetRanges
from runtime.patience import Patience
from runtime.settings import Settings
from schemas.events import CleanRecord, FailedRecord, Origin
from services.failures import actions
from services.failures.selection import Selection
from stores.coverage import Outcome, outcome, wait_until_covered
from stores.postgres_engine import postgres_engine
from tests.integration.postgres_sink_driver import Driver, customer, driver


async def test_stored_failed_and_pending_records_are_told_apart(migrated_settings: Settings) -> None:
    wanted = {("customers.raw", 0): OffsetRanges([(0, 3), (5, 7)]), ("customers.raw", 1): OffsetRanges([(0, 2)])}
    engine = postgres_engine(migrated_settings)
    seen: list[int] = []
    async with driver(migrated_settings) as sink:
        await sink.write(customer("A", 0), customer("B", 1, email="a@example.org"), customer("C", 2), customer("D", 3))
        assert await wait_until_covered(migrated_settings, engine, wanted, Patience(0.1), seen.append) == Outcome(
            stored=2, failed=1, pending=4
        )
        await sink.write(*(customer(f"E{n}", n) for n in (5, 6)), *(customer(f"F{n}", n, partition=1) for n in (0, 1)))
        assert await wait_until_covered(migrated_settings, engine, wanted, Patience(10), seen.append) == Outcome(
            stored=6, failed=1, pending=0
        )
    assert seen[0] == 4
    assert seen[-1] == 0
    await engine.dispose()


async def of_run(sink: Driver, run: str) -> dict[str, int]:
    """A run's records by outcome, without zeros."""
    engine = postgres_engine(sink.settings)
    async with engine.connect() as connection:
        counts = (await outcome(connection, {}, run)).counts()
    await engine.dispose()
    return {name: count for name, count in counts.items() if count}


def delete(key: str, offset: int) -> CleanRecord:
    return CleanRecord(key, Origin("customers.raw", 0, offset, 1_000 + offset), msgspec.Raw(b"null"))


def held(offset: int, run: str) -> FailedRecord:
    origin = Origin("customers.raw", 0, offset, 1_000 + offset)
    return FailedRecord("customers", "normalizer", "required", "m", origin, 5_000, source="shop", run=run, held=True)


async def test_each_run_counts_the_outcomes_of_its_own_records_however_often_they_come(
    migrated_settings: Settings,
) -> None:
    batches = [
        [
            replace(customer("A", 0), run="first"),
            replace(customer("A", 1, first_name="Newer"), run="first"),
            replace(customer("A", 2, first_name="Newest"), run="second"),
            replace(customer("B", 3, email="a@example.org"), run="first"),
            replace(customer("P", 0, partition=1), run="second"),
        ],
        [replace(customer("A", 4, first_name="Newest"), run="second"), customer("nobody's", 5)],
        [replace(customer("A", 6, first_name="Last"), run="second"), replace(delete("P", 7), run="second")],
    ]
    async with driver(migrated_settings) as sink:
        for batch in (*batches, *batches, batches[0][1:3]):
            await sink.write(*batch)
        first, second = await of_run(sink, "first"), await of_run(sink, "second")
        assert first == {"superseded": 2, "failed": 1}
        assert second == {"inserted": 2, "unchanged": 1, "updated": 1, "deleted": 1}
        assert await sink.counts() == {**first, **second, "inserted": 3}, "with the one that names no run"


async def test_the_outcomes_of_held_records_are_counted_for_their_run(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as sink:
        await sink.write(held(0, "flood"), held(1, "flood"), held(2, "other"))
        assert await of_run(sink, "flood") == {"held": 2}
        await sink.write(replace(customer("A", 0), run="flood"))
        assert await of_run(sink, "flood") == {"inserted": 1, "held": 1}
        engine = postgres_engine(migrated_settings)
        async with engine.begin() as connection:
            await actions.discard_held(connection, Selection(sources=("shop",)), "me", "why")
        await engine.dispose()
        assert await of_run(sink, "flood") == {"inserted": 1, "failed": 1}
        assert await of_run(sink, "other") == {"failed": 1}


async def test_a_run_id_that_no_run_of_ours_can_have_spoils_no_batch(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as sink:
        await sink.write(
            *(replace(customer(f"C{n}", n), run=run) for n, run in enumerate(["\x00", "x" * 5_000, "", "r"]))
        )
        assert await sink.counts() == {"inserted": 4}
        assert await of_run(sink, "r") == {"inserted": 1}


async def test_a_wait_goes_on_while_its_own_records_arrive(migrated_settings: Settings) -> None:
    records, now, seen = 12, [0.0], [13]
    wanted = {("customers.raw", 0): OffsetRanges([(0, records)])}
    engine = postgres_engine(migrated_settings)
    looked = asyncio.Event()

    def progress(pending: int) -> None:
        """100 s pass whenever one more has come; the last of them never does."""
        now[0] += 100 if pending < seen[-1] else 200 if pending == 1 else 0
        seen.append(pending)
        looked.set()

    async def come(sink: Driver) -> None:
        for offset in range(records - 1):
            await looked.wait()
            await sink.write(replace(customer(f"C{offset}", offset), run="slow"))
            looked.clear()

    async with driver(migrated_settings) as sink:
        coming = asyncio.create_task(come(sink))
        patience = Patience(120, clock=lambda: now[0])
        ended = await wait_until_covered(migrated_settings, engine, wanted, patience, progress, "slow")
        await coming
    assert now[0] > 10 * 120, "it has lasted many times as long"
    assert (ended.stored, ended.pending, ended.of_run["inserted"]) == (records - 1, 1, records - 1)
    await engine.dispose()
