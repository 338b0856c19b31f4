"""ETL runs between processes: one at a time per source, and every one is recorded as it ended."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from producers.source import Source
from producers.sources import load_sources
from runtime.settings import Settings
from services.runs.history import RunRow, Stats, read_run, read_stats
from services.runs.lock import LockTaken, SourceLock
from services.runs.run import NotTaken, Run, RunUnderWay, run_source
from stores.advisory_locks import RUN_HOLDER, run_lock
from stores.outages import Unavailable
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import closed_port
from tests.integration.etl_runs import (
    ROWS,
    Command,
    EmptySource,
    begun,
    cover,
    recorded,
    small_sources,
    until_published,
)
from tests.waiting import eventually, eventually_async

GONE = '[sources.gone]\nkind = "api"\nurl = "http://127.0.0.1:9/x"\ndataset = "records"\nretries = 0\n'


@pytest.fixture
def settings(pipeline_settings: Settings) -> Settings:
    return small_sources(pipeline_settings, GONE)


@pytest.fixture
def headrace(settings: Settings) -> Command:
    return Command(settings)


def letters(settings: Settings) -> Source:
    return load_sources(settings.sources_file, settings)["letters"]


async def stats_of(settings: Settings) -> Stats:
    engine = postgres_engine(settings)
    try:
        async with engine.begin() as connection:
            return await read_stats(connection)
    finally:
        await engine.dispose()


async def row_of(settings: Settings, run_id: str) -> RunRow:
    engine = postgres_engine(settings)
    try:
        async with engine.begin() as connection:
            row = await read_run(connection, run_id)
            assert row is not None
            return row
    finally:
        await engine.dispose()


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(settings.plain_database_url)
    try:
        yield connection
    finally:
        await connection.close()


def test_of_two_processes_one_runs_a_source_and_the_other_is_told_of_that_run(
    settings: Settings, headrace: Command
) -> None:
    first = headrace.start("run", "letters", "--json")
    try:
        running = until_published(settings)
        second = headrace.json("run", "letters", expect=1)
        assert f"run {running['run_id']} of this source is under way" in second["runs"][0]["error"]
        assert second["runs"][0]["published"] == 0
        cover(settings)
        output, errors = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 0, output + errors
    (run,) = recorded(settings)
    assert (run["status"], run["published"], run["stored"], run["failed"]) == ("success", ROWS, ROWS, 0)
    assert (run["trigger"], run["dataset"], run["failure_reason"]) == ("run", "records", None)
    assert run["started_at"] < run["finished_at"]


def test_a_run_is_no_success_before_postgres_has_its_records(settings: Settings, headrace: Command) -> None:
    ended = headrace.json("publish", "letters", "--wait", "--timeout", "0.3", expect=1)["runs"][0]
    assert (ended["published"], ended["pending"], ended["stored"]) == (ROWS, ROWS, None)
    (run,) = recorded(settings)
    assert (run["status"], run["trigger"], run["published"], run["stored"]) == ("failed", "publish", ROWS, None)
    assert f"{ROWS} of {ROWS} published records have not reached Postgres within 0.3 s" in run["failure_reason"]


async def test_a_run_records_the_encoding_that_was_guessed_and_how_sure_it_was(settings: Settings) -> None:
    letters_in_hebrew = "".join(f"{number},אותיות בעברית\n" for number in range(ROWS))
    (settings.home / "letters.csv").write_bytes(f"source_id,name\n{letters_in_hebrew}".encode("cp1255"))
    cover(settings)
    await run_source(Run(letters(settings)), settings, "run")
    (run,) = recorded(settings)
    assert run["status"] == "success"
    assert str(run["encoding"]).startswith("cp1255 (a guess, 9")


def test_publishing_without_waiting_is_no_recorded_run(settings: Settings, headrace: Command) -> None:
    assert headrace("publish", "letters").returncode == 0
    assert recorded(settings) == []


def test_a_killed_run_is_interrupted_as_soon_as_somebody_reads_the_runs(settings: Settings, headrace: Command) -> None:
    killed = headrace.start("run", "letters")
    running = until_published(settings)
    killed.kill()
    killed.communicate()

    def interrupted() -> bool:
        return bool(headrace.json("stats")["sources"]["letters"]["last_failure_reason"] == "interrupted")

    eventually(interrupted, what="the killed run is told from one that goes on")
    (run,) = recorded(settings)
    assert (run["run_id"], run["status"], run["finished_at"] is not None) == (running["run_id"], "failed", True)
    cover(settings)
    # All of it had been confirmed, so that there is nothing new to send.
    again = headrace.json("run", "letters")["runs"][0]
    assert (again["published"], again["stored"]) == (0, 0)
    assert headrace.json("run", "letters", "--full")["runs"][0]["stored"] == ROWS
    assert [run["status"] for run in recorded(settings)] == ["failed", "success", "success"]


def test_the_next_run_ends_one_that_was_killed_before_it(settings: Settings, headrace: Command) -> None:
    killed = headrace.start("run", "letters")
    until_published(settings)
    killed.kill()
    killed.communicate()
    cover(settings)
    eventually(lambda: headrace("run", "letters").returncode == 0, what="the killed run's lock is free")
    assert [(run["status"], run["failure_reason"]) for run in recorded(settings)] == [
        ("failed", "interrupted"),
        ("success", None),
    ]


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_says_so_in_its_record(
    settings: Settings, headrace: Command, stop: signal.Signals, code: int
) -> None:
    stopped = headrace.start("run", "letters", "--json")
    until_published(settings)
    stopped.send_signal(stop)
    output, errors = stopped.communicate(timeout=30)
    assert stopped.returncode == code, output + errors
    (run,) = recorded(settings)
    assert (run["status"], run["published"], run["stored"]) == ("failed", ROWS, None)
    assert run["failure_reason"] == f"stopped before it had ended; {ROWS} records were published, and will be stored"


def test_a_source_that_is_down_is_a_failed_run_and_stops_no_other(settings: Settings, headrace: Command) -> None:
    cover(settings)
    answer = headrace.json("run", expect=1)
    assert {run["source"]: run["error"] is None for run in answer["runs"]} == {"letters": True, "gone": False}
    (run,) = recorded(settings, "gone")
    assert (run["status"], run["published"], run["stored"], run["failed"]) == ("failed", 0, None, None)
    assert "http://127.0.0.1:9/x cannot be reached" in run["failure_reason"]
    stats = headrace.json("stats")
    assert (stats["run_count"], stats["total_records_processed"]) == (2, ROWS)
    assert "cannot be reached" in stats["last_failure_reason"]
    assert stats["sources"]["letters"]["last_failure"] is None
    assert stats["sources"]["gone"]["last_success"] is None
    shown = headrace("stats").stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["SOURCE", "gone", "letters", "all"]


def test_a_source_without_its_secret_is_not_run_and_stops_no_other(pipeline_settings: Settings, tmp_path: Path) -> None:
    block = '[sources.{0}]\nkind = "api"\nurl = "http://127.0.0.1:9/${{{1}}}"\ndataset = "records"\nretries = 0\n'
    blocks = block.format("shop", "NO_SUCH_SECRET"), block.format("till", "TILL_KEY")
    settings = small_sources(pipeline_settings, *blocks)
    (tmp_path / ".env").write_text("TILL_KEY=from-the-file")
    headrace = Command(settings, folder=tmp_path)
    cover(settings)
    answer = headrace.json("run", expect=1)
    assert [run["source"] for run in answer["runs"]] == ["letters", "till", "shop"], "what is wrong is said at the end"
    letters, till, shop = (run["error"] for run in answer["runs"])
    assert letters is None
    assert "from-the-file" in till, "the variable is read from .env"
    assert "[sources.shop] url" in shop
    assert "NO_SUCH_SECRET is not set; set it in the environment or in .env" in shop
    done = headrace("run", "letters", "shop")
    assert (done.returncode, len(recorded(settings))) == (1, 2)
    assert "shop: not run" in done.stderr
    assert headrace("run", "letters").returncode == 0


def test_the_option_new_runs_only_sources_that_have_not_succeeded_yet(settings: Settings, headrace: Command) -> None:
    cover(settings)
    assert headrace("run", "--new").returncode == 1, "one of the two is down"
    assert headrace("run", "--new", "letters").returncode == 0
    assert len(recorded(settings)) == 1
    assert headrace("run", "--new").returncode == 1
    assert (len(recorded(settings)), len(recorded(settings, "gone"))) == (1, 2), "only `gone` is tried again"


def test_reset_forgets_the_runs_and_leaves_the_records(settings: Settings, headrace: Command) -> None:
    cover(settings)
    assert headrace("run", "letters").returncode == 0
    assert headrace("run", "gone").returncode == 1
    refused = headrace("reset", "letters", "nosuch", "--yes")
    assert refused.returncode == 1
    assert "there is no source 'nosuch'; known are: gone, letters" in refused.stderr
    asked = headrace("reset", stdin="n\n")
    assert asked.returncode == 1
    assert len(recorded(settings)) == 1
    assert "1 rows of etl_runs" in headrace("reset", "gone", "--yes").stdout
    assert len(recorded(settings)) == 1
    assert headrace("reset", stdin="y\n").returncode == 0
    assert headrace.json("stats")["run_count"] == 0


def test_reset_refuses_while_a_run_is_under_way(settings: Settings, headrace: Command) -> None:
    running = headrace.start("run", "letters")
    try:
        run = until_published(settings)
        refused = headrace("reset", "--yes")
        assert refused.returncode == 1
        assert f"run {run['run_id']} of letters is under way" in refused.stderr
        assert headrace("reset", "gone", "--yes").returncode == 0
        assert len(recorded(settings)) == 1
    finally:
        running.kill()
        running.communicate()


def test_without_postgres_nothing_is_published_by_a_run(settings: Settings, headrace: Command) -> None:
    done = headrace("run", "letters", DATABASE_URL=f"postgresql://x:y@127.0.0.1:{closed_port()}/none")
    assert done.returncode == 1
    assert "letters: 0 records published" in done.stderr
    assert "postgres does not answer" in done.stderr
    told = headrace("stats", DATABASE_URL=f"postgresql://x:y@127.0.0.1:{closed_port()}/none")
    assert told.returncode == 1
    assert "Postgres at postgresql://***@127.0.0.1" in told.stderr


async def test_a_run_survives_the_loss_of_its_connections(settings: Settings) -> None:
    run, completing = await begun(settings, letters(settings))
    async with session(settings) as other:

        async def published() -> bool:
            return bool(await other.fetchval("SELECT published FROM etl_runs WHERE run_id = $1", run.run_id))

        await eventually_async(published, what="the run waits for Postgres")
        holder = f"SELECT ({RUN_HOLDER.format(source='$1::text')})"
        before = await other.fetchval(holder, "letters")
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        async def held() -> bool:
            return await other.fetchval(holder, "letters") not in (None, before)

        await eventually_async(held, what="the run has taken its lock again")
        with pytest.raises(RunUnderWay, match=run.run_id):
            await run_source(Run(letters(settings)), settings, "run")
    await asyncio.to_thread(cover, settings)
    assert (await completing).stored == ROWS
    assert (await row_of(settings, run.run_id)).status == "success"


async def test_a_run_whose_lock_another_one_took_meanwhile_ends_as_failed(settings: Settings) -> None:
    run, completing = await begun(settings, letters(settings))
    async with session(settings) as other, session(settings) as killer:
        lock = "SELECT pg_advisory_lock(hashtextextended($1, 0))"
        waiting = asyncio.create_task(other.execute(lock, run_lock("letters")))

        async def queued() -> bool:
            return bool(await killer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually_async(queued, what="somebody waits for the lock")
        await killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        await waiting
        with pytest.raises(LockTaken):
            await completing
    row = await row_of(settings, run.run_id)
    assert (row.status, "another run of letters began" in str(row.failure_reason)) == ("failed", True)


async def test_a_run_in_this_process_holds_off_another_and_the_lock_is_free_at_its_end(settings: Settings) -> None:
    for _ in range(3):
        source, other = EmptySource("letters"), EmptySource("other")
        run, completing = await begun(settings, source)
        with pytest.raises(RunUnderWay) as refused:
            await run_source(Run(EmptySource("letters")), settings, "run")
        assert refused.value.run_id == run.run_id
        _, beside = await begun(settings, other)
        other.released.set()
        assert (await beside).stored == 0
        source.released.set()
        assert (await completing).stored == 0
    assert (await stats_of(settings)).sources["letters"].run_count == 3


async def test_a_run_that_is_cancelled_as_it_ends_leaves_no_connection_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, ending, source = SourceLock.release, asyncio.Event(), EmptySource()
    source.released.set()

    async def slow_release(lock: SourceLock) -> None:
        ending.set()
        await asyncio.sleep(0.2)
        await release(lock)

    monkeypatch.setattr(SourceLock, "release", slow_release)
    run, completing = await begun(settings, source)
    await ending.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with session(settings) as connection:
        assert await connection.fetchval(others) == 0
    assert (await row_of(settings, run.run_id)).status == "success"


async def test_a_mistake_of_ours_is_recorded_without_its_message(settings: Settings) -> None:
    run = Run(EmptySource(error=RuntimeError("a secret")))
    with pytest.raises(RuntimeError):
        await run_source(run, settings, "run")
    reason = str((await row_of(settings, run.run_id)).failure_reason)
    assert "RuntimeError" in reason
    assert "secret" not in reason


async def test_a_run_whose_wait_is_over_fails_and_its_repetition_succeeds(settings: Settings) -> None:
    with pytest.raises(NotTaken):
        await run_source(Run(letters(settings)), settings, "run", wait_seconds=0.2)
    await asyncio.to_thread(cover, settings)
    assert (await run_source(Run(letters(settings)), settings, "run")).stored == ROWS
    totals = await stats_of(settings)
    assert (totals.run_count, totals.total_records_processed, totals.running) == (2, ROWS, 0)
    assert totals.last_success is not None
    assert totals.last_failure is not None
    assert totals.last_success > totals.last_failure


async def test_a_missing_table_is_named_as_the_problem(settings: Settings) -> None:
    async with session(settings) as connection:
        await connection.execute("DROP TABLE etl_runs")
    with pytest.raises(Unavailable, match="etl_runs"):
        await run_source(Run(EmptySource()), settings, "run")
