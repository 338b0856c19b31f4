"""The scheduler runs what is due, never twice at a time, and nothing that fails ends it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import Settings
from services.runs.scheduler import Scheduler
from stores.postgres_connection import postgres_connection
from tests.integration.etl_runs import ROWS, EmptySource, begun, cover, recorded, small_sources, until_published
from tests.processes import Process
from tests.waiting import eventually, eventually_async

OFTEN = 0.2
GONE = '[sources.gone]\nkind = "api"\nurl = "http://127.0.0.1:9/x"\ndataset = "records"\nretries = 0\n'
NEVER = '[sources.never]\nkind = "api"\nurl = "http://127.0.0.1:9/x"\ndataset = "records"\ninterval_seconds = 0\n'


@pytest.fixture
def settings(pipeline_settings: Settings) -> Settings:
    return small_sources(pipeline_settings, GONE, NEVER).model_copy(update={"etl_interval": OFTEN})


@asynccontextmanager
async def scheduling(settings: Settings) -> AsyncIterator[Scheduler]:
    scheduler, stopping = Scheduler(settings), asyncio.Event()
    task = asyncio.create_task(scheduler.run(stopping))
    try:
        yield scheduler
    finally:
        stopping.set()
        await asyncio.wait_for(task, 30)


async def recorded_async(settings: Settings, source: str = "letters") -> list[dict[str, Any]]:
    return await asyncio.to_thread(recorded, settings, source)


async def until(settings: Settings, condition: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
    async def true() -> bool:
        return condition(await recorded_async(settings))

    await eventually_async(true, what=what)


async def test_sources_run_again_and_again_whatever_fails_beside_them(settings: Settings) -> None:
    await asyncio.to_thread(cover, settings)
    async with scheduling(settings) as scheduler:
        await until(settings, lambda runs: sum(run["status"] == "success" for run in runs) >= 2, "two runs succeed")
        health = scheduler.health()
    runs = await recorded_async(settings)
    assert {run["trigger"] for run in runs} == {"schedule"}
    for before, after in pairwise(runs):
        assert before["finished_at"] <= after["started_at"]
    assert {run["status"] for run in await recorded_async(settings, "gone")} == {"failed"}
    assert await recorded_async(settings, "never") == []
    assert (health["state"], set(health["sources"])) == ("scheduling", {"letters", "gone"})
    assert health["sources"]["letters"]["interval_seconds"] == OFTEN


async def test_a_run_that_somebody_else_has_begun_is_left_alone(settings: Settings) -> None:
    await asyncio.to_thread(cover, settings)
    source = EmptySource("letters")
    _, mine = await begun(settings, source)
    async with scheduling(settings) as scheduler:

        async def skipped() -> bool:
            return "letters" in (sources := scheduler.health()["sources"]) and sources["letters"]["last"] == "skipped"

        await eventually_async(skipped, what="the scheduler finds the run")
        assert len(await recorded_async(settings)) == 1

        source.released.set()
        await mine
        await until(settings, lambda runs: len(runs) > 1, "the scheduler runs it in its turn")


async def test_two_schedulers_share_the_work(settings: Settings) -> None:
    interval = 1.0
    shared = settings.model_copy(update={"etl_interval": interval})
    await asyncio.to_thread(cover, settings)
    async with scheduling(shared), scheduling(shared):
        await until(settings, lambda runs: sum(run["status"] == "success" for run in runs) >= 4, "four runs succeed")
    starts = [run["started_at"] for run in await recorded_async(settings)]
    assert all((after - before).total_seconds() > interval / 2 for before, after in pairwise(starts))


async def test_a_run_from_before_the_clock_was_set_back_keeps_nobody_waiting(settings: Settings) -> None:
    await asyncio.to_thread(cover, settings)
    async with scheduling(settings):
        await until(settings, lambda runs: any(run["status"] == "success" for run in runs), "a run succeeds")
    async with postgres_connection(settings) as connection:
        await connection.execute("UPDATE etl_runs SET started_at = started_at + interval '1 year'")
    before = len(await recorded_async(settings))
    async with scheduling(settings):
        await until(settings, lambda runs: len(runs) > before, "the source is run again")


async def test_a_changed_sources_file_is_noticed_and_a_wrong_one_is_reported(settings: Settings) -> None:
    await asyncio.to_thread(cover, settings)
    file = settings.sources_file
    right = await asyncio.to_thread(file.read_text)
    await asyncio.to_thread(file.write_text, "[sources.x\n")
    async with scheduling(settings) as scheduler:

        async def told() -> bool:
            return "at line 1" in scheduler.health().get("held_up_by", "")

        await eventually_async(told, what="the wrong file is told")
        await asyncio.to_thread(file.write_text, right + "[sources.x]\nkind = 'nothing'\n")
        await until(settings, lambda runs: bool(runs), "the blocks that are right are used")
        assert "held_up_by" not in scheduler.health()
        assert "kind = 'nothing'" in scheduler.health()["misconfigured"]["x"]


def test_the_process_tells_the_next_start_and_stops_at_once(settings: Settings, tmp_path: Path) -> None:
    process = Process("scheduler", settings, tmp_path / "scheduler.log")
    process.environment |= {"SOURCES_FILE": str(settings.sources_file), "ETL_INTERVAL": "1"}
    process.start()
    try:
        process.wait_until_healthy()
        run = until_published(settings)
        health = process.get("/health").json()
        assert health["sources"]["letters"]["last"] == "running"
        eventually(
            lambda: process.get("/health").json()["sources"]["gone"]["next_start"],
            what="the next start of the source that fails is shown",
        )
        failed = r'headrace_etl_runs_total\{source="gone",status="failed"\} [1-9]'
        eventually(
            lambda: re.search(failed, process.get("/metrics").text),
            what="its failure is counted",
        )
    finally:
        assert process.stop() == 0
    last = next(row for row in recorded(settings) if row["run_id"] == run["run_id"])
    assert (last["status"], last["published"]) == ("failed", ROWS)
    assert last["failure_reason"].startswith("stopped before it had ended")
