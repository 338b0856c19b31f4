"""What producers and the API learn from the sink's books."""

from sqlalchemy.ext.asyncio import create_async_engine

from runtime.coverage import Outcome, wait_until_covered
from runtime.offset_ranges import OffsetRanges
from runtime.settings import Settings
from tests.integration.postgres_sink_driver import customer, driver


async def test_stored_failed_and_pending_records_are_told_apart(migrated_settings: Settings) -> None:
    wanted = {("customers.raw", 0): OffsetRanges([(0, 3), (5, 7)]), ("customers.raw", 1): OffsetRanges([(0, 2)])}
    engine = create_async_engine(migrated_settings.async_database_url)
    seen: list[int] = []
    async with driver(migrated_settings) as sink:
        await sink.write(customer("A", 0), customer("B", 1, email="a@example.org"), customer("C", 2), customer("D", 3))
        assert await wait_until_covered(migrated_settings, engine, wanted, 0.1, seen.append) == Outcome(
            stored=2, failed=1, pending=4
        )
        await sink.write(*(customer(f"E{n}", n) for n in (5, 6)), *(customer(f"F{n}", n, partition=1) for n in (0, 1)))
        assert await wait_until_covered(migrated_settings, engine, wanted, 10, seen.append) == Outcome(
            stored=6, failed=1, pending=0
        )
    assert seen[0] == 4
    assert seen[-1] == 0
    await engine.dispose()
