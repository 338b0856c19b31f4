"""Runs each source again and again: when it is due, with jitter, and never twice at a time.

Plain asyncio: what is due is decided by the sources' intervals and by the table of runs, so there is no state of a
scheduler's own to keep, and the lock that keeps two runs apart holds against every other process too.
"""

import asyncio
import contextlib
import datetime
import random
import time
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.ext.asyncio import create_async_engine

from producers.source import Source
from producers.sources import SourcesError, load_sources, sources_version
from runtime.errors import DeliveryFailed, Explained
from runtime.settings import Settings
from services.runs.etl_run import run_source
from services.runs.run import RunUnderWay
from services.runs.runs import seconds_since_latest
from services.runs.schedule import Plan, first_start, interval_of, lately, next_start, plan_json
from stores.outages import Unavailable, postgres_trouble

log = structlog.get_logger()

AGAIN_SECONDS = 10.0
"""After Postgres or Kafka did not answer."""

LOOK_SECONDS = 1.0
CONNECT_SECONDS = 5

RUNS = Counter("headrace_etl_runs", "Scheduled runs by how they ended", ["source", "status"])
SECONDS = Histogram(
    "headrace_etl_run_seconds",
    "Duration of scheduled runs that succeeded",
    ["source"],
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
LAST_SUCCESS = Gauge("headrace_etl_last_success_timestamp_seconds", "When a scheduled run last succeeded", ["source"])


class Scheduler:
    """Runs what is due. `run` belongs to one event loop; `health` may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plans: dict[str, Plan] = {}
        self._version: object = None
        self._problem: str | None = None
        self._broken: Mapping[str, str] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Run sources until `stopping` is set; then stop the runs under way, which are recorded as failed.

        Reads the sources file again when it changes. Nothing that a source, Kafka or Postgres does ends it.
        """
        try:
            while not stopping.is_set():
                await self._read_sources()
                self._start_due()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)
        finally:
            tasks = [plan.task for plan in self._plans.values() if plan.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def health(self) -> dict[str, Any]:
        """What /health shows: each scheduled source with its next start. A source that fails is no fault of ours."""
        now, clock = time.monotonic(), datetime.datetime.now(datetime.UTC)
        plans = {name: plan_json(plan, now, clock) for name, plan in list(self._plans.items())}
        body: dict[str, Any] = {"state": "scheduling" if plans else "nothing_scheduled", "sources": plans}
        told: dict[str, Any] = {"held_up_by": self._problem, "misconfigured": self._broken}
        if self._broken:
            told["degraded"] = f"not run, since their blocks in the sources file are wrong: {', '.join(self._broken)}"
        return body | {name: value for name, value in told.items() if value}

    async def _read_sources(self) -> None:
        version = sources_version(self._settings)
        if version == self._version:
            self._problem = None
            return
        try:
            sources = await asyncio.to_thread(load_sources, self._settings.sources_file, self._settings)
            # Without the table of runs nobody knows what is due.
            since = await self._since_latest()
        except (SourcesError, Unavailable) as error:
            if self._problem != str(error):
                log.warning("schedule_unknown", reason=str(error))
            self._problem = str(error)
            return
        self._version, self._problem, self._broken = version, None, sources.broken
        for name, problems in sources.broken.items():
            log.warning("source_misconfigured", source=name, reason=problems)
        self._plan(sources, since)

    def _plan(self, sources: Mapping[str, Source], since: Mapping[str, float]) -> None:
        """Keep the plans that stay, with the sources as they are declared now; what is not wanted any more runs out."""
        now = time.monotonic()
        plans = {}
        for name, source in sources.items():
            interval = interval_of(source, self._settings.etl_interval)
            known = self._plans.get(name)
            if interval is None:
                continue
            if known and known.interval == interval:
                known.source = source
                plans[name] = known
            else:
                due = first_start(now, interval, since.get(name), random.random())  # noqa: S311 (jitter)
                plans[name] = Plan(source, interval, due, known.task if known else None)
        self._plans = plans
        seconds = {name: round(plan.interval, 1) for name, plan in plans.items()}
        log.info("scheduled" if plans else "nothing_scheduled", intervals=seconds)

    async def _since_latest(self) -> dict[str, float]:
        """Seconds since each source's latest run began, of those that did not fail. Raises Unavailable."""
        engine = create_async_engine(self._settings.async_database_url, connect_args={"timeout": CONNECT_SECONDS})
        try:
            async with engine.connect() as connection:
                return await seconds_since_latest(connection)
        except Exception as error:
            if reason := postgres_trouble(error):
                raise Unavailable("postgres", reason) from error
            raise
        finally:
            await engine.dispose()

    def _start_due(self) -> None:
        now = time.monotonic()
        for name, plan in self._plans.items():
            if plan.due <= now and (plan.task is None or plan.task.done()):
                plan.task = asyncio.create_task(self._run_once(name, plan), name=f"run {name}")

    async def _run_once(self, name: str, plan: Plan) -> None:
        begun = time.monotonic()
        interval = plan.interval
        try:
            since = (await self._since_latest()).get(name)
            if since is not None and lately(since, interval):
                # By another host's scheduler, or by hand.
                plan.due = first_start(time.monotonic(), interval, since, random.random())  # noqa: S311 (jitter)
                return
            plan.last = "running"
            await run_source(plan.source, self._settings, "schedule", "resume")
        except RunUnderWay as error:
            plan.last = "skipped"
            log.info("run_skipped", source=name, reason=str(error))
        except (Unavailable, DeliveryFailed) as error:
            plan.last = "failed"
            interval = min(interval, AGAIN_SECONDS)
            log.warning("run_failed", source=name, reason=str(error))
        except Explained as error:
            plan.last = "failed"
            log.warning("run_failed", source=name, reason=str(error))
        except Exception:
            plan.last = "failed"
            log.exception("run_failed", source=name)
        else:
            plan.last = "success"
            SECONDS.labels(name).observe(time.monotonic() - begun)
            LAST_SUCCESS.labels(name).set_to_current_time()
        RUNS.labels(name, plan.last).inc()
        plan.due = next_start(begun, time.monotonic(), interval, random.random())  # noqa: S311 (jitter)
