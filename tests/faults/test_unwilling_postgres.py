"""A Postgres that answers but writes nothing, read-only or with a full disk, is waited out: no record is to blame."""

import asyncio
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.processes import Pipeline
from tests.waiting import eventually

PER_SECOND = 500
TRIES_SECONDS = 6.0
"""Long enough for several tries: their backoff begins at 0.2 s and doubles."""

READ_ONLY = (
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());"
        " END $$"
    ),
    # The setting is for new sessions.
    (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'headrace-sink'"
    ),
)
WRITABLE = (
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$",
)
# Postgres raises this SQLSTATE when it can't extend a table's file. A trigger raises it here without filling a disk.
DISK_FULL = (
    (
        "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
    ),
    "CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON customers FOR EACH STATEMENT EXECUTE FUNCTION disk_full()",
)
ROOM_AGAIN = ("DROP FUNCTION disk_full CASCADE",)


@pytest.mark.parametrize(
    ("fault", "begin", "end"),
    [("read-only Postgres", READ_ONLY, WRITABLE), ("SQLSTATE 53100 (disk full)", DISK_FULL, ROOM_AGAIN)],
    ids=["read-only", "disk-full"],
)
def test_a_postgres_that_refuses_all_writes_is_an_outage_and_not_poison(
    fault: str, begin: tuple[str, ...], end: tuple[str, ...], pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    with Pipeline(settings, tmp_path) as pipeline:
        sink = pipeline["sink postgres"]
        pid = sink.pid
        with load(settings, Workload(ENDLESS, 500, seed=11), PER_SECOND) as running:
            eventually(lambda: running.published > PER_SECOND, what="the load is going")
            execute(settings, begin)
            try:
                eventually(lambda: state(sink.url) == "waiting_for_store", what="the sink waits for Postgres")
                over = time.monotonic() + TRIES_SECONDS
                eventually(lambda: time.monotonic() > over, what="several tries have failed")
                assert state(sink.url) == "waiting_for_store"
            finally:
                execute(settings, end)
            back = time.monotonic()
            published = running.stop()
        wait_until_settled(settings)
        recovery = time.monotonic() - back
        assert (sink.pid, sink.exit_code) == (pid, None)
        told = sink.log_tail(1_000)
        verdict = verify(settings)
    assert told.count('"event": "waiting_for_store"') == 1, told
    assert told.count('"event": "store_is_back"') == 1, told
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    record_figure(Figure(fault, 1, published, verdict.lost, verdict.double, recovery))


def state(url: str) -> str:
    """State that the sink's loop reports."""
    return str(httpx.get(f"{url}/health", timeout=5, trust_env=False).json().get("state"))


def execute(settings: Settings, commands: tuple[str, ...]) -> None:
    """Run the statements in a session that may write whatever the database's default is."""

    async def run() -> None:
        connect: Any = asyncpg.connect
        connection = await connect(
            settings.plain_database_url, server_settings={"default_transaction_read_only": "off"}
        )
        try:
            for command in commands:
                await connection.execute(command)
        finally:
            await connection.close()

    asyncio.run(run())
