"""A batch of which Postgres refuses very many records: a rule in the table that the records break."""

import pytest

from runtime.failure_limit import FailureLimitReached
from runtime.settings import Settings
from sinks.postgres.merge import ManyRefused
from sinks.postgres.sink import MOST_REFUSED
from tests.integration.postgres_sink_driver import batch_of, customer, driver

RECORDS = 2_000
NOBODY = "ALTER TABLE customers ADD CONSTRAINT nobody CHECK (first_name <> 'Nobody')"


async def test_a_whole_batch_that_is_refused_ends_in_failures(pipeline_settings: Settings) -> None:
    settings = pipeline_settings.model_copy(update={"failure_limit_percent": 0})
    async with driver(settings) as sink:
        await sink.connection.execute(NOBODY)
        batch = batch_of([customer(f"C{number}", number, first_name="Nobody") for number in range(RECORDS)])
        told = await sink.sink.write(batch)
        assert told is not None
        await told
        assert await sink.counts() == {"failed": RECORDS}
        assert len(await sink.failures()) == RECORDS
        await sink.sink.close()


async def test_every_other_record_refused_leaves_every_other_stored(pipeline_settings: Settings) -> None:
    async with driver(pipeline_settings) as sink:
        await sink.connection.execute(NOBODY)
        names = ("Ada", "Nobody")
        batch = batch_of([customer(f"C{n}", n, first_name=names[n % 2]) for n in range(RECORDS)])
        told = await sink.sink.write(batch)
        assert told is not None
        await told
        assert await sink.counts() == {"failed": RECORDS // 2, "inserted": RECORDS // 2}
        assert await sink.covered() == f"{{[0,{RECORDS})}}"
        await sink.sink.close()


async def test_savepoints_that_failed_leave_no_locks(pipeline_settings: Settings) -> None:
    async with driver(pipeline_settings) as sink:
        await sink.connection.execute(NOBODY)
        batch = batch_of([customer(f"C{n}", n, first_name="Nobody") for n in range(MOST_REFUSED + 1)])
        async with sink.connection.transaction():
            with pytest.raises(ManyRefused):
                await sink.sink.store(sink.connection, batch, MOST_REFUSED)
            locks = await sink.connection.fetchval("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()")
        assert locks < 50


async def test_the_limit_is_reached_before_the_whole_batch_has_been_tried(pipeline_settings: Settings) -> None:
    async with driver(pipeline_settings) as sink:
        await sink.connection.execute(NOBODY)
        good = [customer(f"G{number}", number) for number in range(150)]
        bad = [customer(f"C{number}", number, first_name="Nobody") for number in range(150, RECORDS)]
        for _ in range(2):  # and no nearer to it, nor further from it, when it is tried again
            with pytest.raises(FailureLimitReached):
                await sink.sink.write(batch_of([*good, *bad]))
        counts = await sink.counts()
        assert counts == {"inserted": 150, "failed": 850}, "the first part is below the limit, and stored"
        await sink.sink.close()
