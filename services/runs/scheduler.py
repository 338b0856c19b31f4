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
from dataclasses import dataclass
from typing import Any

import structlog

from producers.source import Source
from producers.sources import SourcesError, load_sources, sources_version
from runtime.errors import DeliveryFailed, Explained
from runtime.instruments import from_zero
from runtime.metrics import PRUNED, PUBLISHED, RUN_LAST_SUCCESS, RUN_SECONDS, RUNS
from runtime.settings import Settings
from services.retention import KEPT, prune
from services.runs.history import ask, seconds_since_latest
from services.runs.run import Run, RunUnderWay, outage, run_source
from stores.outages import Unavailable, in_words, is_denied

log = structlog.get_logger()

AGAIN_SECONDS = 10.0
"""After Postgres or Kafka did not answer."""

LOOK_SECONDS = 1.0

PRUNE_EVERY_SECONDS = 3600.0

ENDS = ("success", "failed", "skipped")
"""The ends of scheduled runs, as they are counted."""

JITTER = 0.1
"""Runs begin up to so large a share of the interval earlier or later, so that sources and hosts drift apart."""


def interval_of(source: Source, default_seconds: float) -> float | None:
    """Seconds between two runs of a source: its block's, or the default; None if it is not scheduled. Pure."""
    own = source.description.interval_seconds
    return (default_seconds if own is None else own) or None


def first_start(now: float, interval: float, since_latest: float | None, chance: float) -> float:
    """The first due time of a source, on `now`'s clock. Pure; `chance` is from 0 to 1.

    An interval after its latest run that did not fail, whoever ran it; one that was never run, an interval from now on.
    At once if that time is over, but for the jitter.
    """
    jitter = JITTER * interval * chance
    return now + max(0.0, interval - (since_latest or 0.0)) + jitter


def next_start(begun: float, now: float, interval: float, chance: float) -> float:
    """The due time of a source that was last begun at `begun`: not before `now`, and missed starts are left out.

    Pure; `chance` is from 0 to 1.
    """
    return max(now, begun + interval * (1 + JITTER * (2 * chance - 1)))


@dataclass
class Plan:
    """One source's schedule. `due` on the monotonic clock."""

    source: Source
    interval: float
    due: float
    task: asyncio.Task[None] | None = None
    last: str = "waiting"

    def json(self, now: float, clock: datetime.datetime) -> dict[str, Any]:
        """As /health shows it. `now` on the monotonic clock, `clock` the same moment on the wall's."""
        due = clock + datetime.timedelta(seconds=max(0.0, self.due - now))
        running = self.last == "running"
        return {
            "interval_seconds": self.interval,
            "last": self.last,
            "next_start": None if running else due.isoformat(timespec="seconds"),
        }


class Scheduler:
    """Runs what is due. `run` belongs to one event loop; `health` may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plans: dict[str, Plan] = {}
        self._version: object = None
        self._problem: str | None = None
        self._broken: Mapping[str, str] = {}
        self._pruning: asyncio.Task[None] | None = None
        self._prune_at = 0.0
        from_zero(PRUNED, [table for kept in KEPT for table in kept.tables])

    async def run(self, stopping: asyncio.Event) -> None:
        """Run sources until `stopping` is set; then stop the runs under way, which are recorded as failed.

        Reads the sources file again when it changes. Nothing that a source, Kafka or Postgres does ends it.
        """
        try:
            while not stopping.is_set():
                await self._read_sources()
                self._start_due()
                self._start_pruning()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)
        finally:
            tasks = [task for task in (self._pruning, *(plan.task for plan in self._plans.values())) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def health(self) -> dict[str, Any]:
        """For /health: each scheduled source with its next start. The scheduler is well while sources fail."""
        now, clock = time.monotonic(), datetime.datetime.now(datetime.UTC)
        plans = {name: plan.json(now, clock) for name, plan in list(self._plans.items())}
        body: dict[str, Any] = {"state": "scheduling" if plans else "nothing_scheduled", "sources": plans}
        remarks: dict[str, Any] = {"held_up_by": self._problem, "misconfigured": self._broken}
        if self._broken:
            remarks["degraded"] = (
                f"not run, since their blocks in the sources file are wrong: {', '.join(self._broken)}"
            )
        return body | {name: value for name, value in remarks.items() if value}

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
        """Plan every source that has an interval; one that had the same before keeps its due time and its run."""
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
        from_zero(RUNS, plans, ENDS)
        from_zero(PUBLISHED, plans)
        self._plans = plans
        seconds = {name: round(plan.interval, 1) for name, plan in plans.items()}
        log.info("scheduled" if plans else "nothing_scheduled", intervals=seconds)

    async def _since_latest(self) -> dict[str, float]:
        """Seconds since each source's latest run began, of those that did not fail. Raises Unavailable."""
        try:
            return await ask(self._settings, seconds_since_latest)
        except Exception as error:
            if trouble := outage(error):
                raise trouble from error
            raise

    def _start_due(self) -> None:
        now = time.monotonic()
        for name, plan in self._plans.items():
            if plan.due <= now and (plan.task is None or plan.task.done()):
                plan.task = asyncio.create_task(self._run_once(name, plan), name=f"run {name}")

    def _start_pruning(self) -> None:
        if time.monotonic() >= self._prune_at and (self._pruning is None or self._pruning.done()):
            self._pruning = asyncio.create_task(self._prune(), name="prune")

    async def _prune(self) -> None:
        """Take out of Postgres what is too old. One that fails is tried again; two at a time do no harm."""
        try:
            pruned = await prune(self._settings)
            for table, count in pruned.items():
                PRUNED.labels(table).inc(count)
            if any(pruned.values()):
                log.info("pruned", rows=pruned)
            pause = PRUNE_EVERY_SECONDS
        except Exception as error:
            away = outage(error) and not is_denied(error)
            pause = AGAIN_SECONDS if away else PRUNE_EVERY_SECONDS
            if not away:
                log.exception("pruning_failed", reason=in_words(error))
        self._prune_at = time.monotonic() + pause

    async def _run_once(self, name: str, plan: Plan) -> None:
        begun = time.monotonic()
        interval = plan.interval
        try:
            since = (await self._since_latest()).get(name)
            if since is not None and since < interval * (1 - 2 * JITTER):
                # It was run a moment ago by another host's scheduler, or by hand: that stands for the one that is due.
                plan.due = first_start(time.monotonic(), interval, since, random.random())  # noqa: S311 (jitter)
                return
            plan.last = "running"
            run = Run(plan.source)
            try:
                await run_source(run, self._settings, "schedule", checkpoint="resume")
            finally:
                PUBLISHED.labels(name).inc(run.published or 0)
        except RunUnderWay as error:
            plan.last = "skipped"
            log.info("run_skipped", source=name, reason=str(error))
        except (Unavailable, DeliveryFailed) as error:
            plan.last, interval = "failed", min(interval, AGAIN_SECONDS)
            log.warning("run_failed", source=name, reason=str(error))
        except Explained as error:
            plan.last = "failed"
            log.warning("run_failed", source=name, reason=str(error))
        except Exception:
            plan.last = "failed"
            log.exception("run_failed", source=name)
        else:
            plan.last = "success"
            RUN_SECONDS.labels(name).observe(time.monotonic() - begun)
            RUN_LAST_SUCCESS.labels(name).set_to_current_time()
        RUNS.labels(name, plan.last).inc()
        plan.due = next_start(begun, time.monotonic(), interval, random.random())  # noqa: S311 (jitter)
