"""When a source is due: pure functions of its interval, the time, and chance."""

import asyncio
import datetime
from dataclasses import dataclass
from typing import Any

from producers.source import Source

JITTER = 0.1
"""Runs begin up to so large a share of the interval earlier or later, so that sources and hosts drift apart."""


def interval_of(source: Source, default_seconds: float) -> float | None:
    """Seconds between two runs of a source: its block's, or the default; None if it is not scheduled. Pure."""
    own = source.description.interval_seconds
    return (default_seconds if own is None else own) or None


def first_start(now: float, interval: float, since_latest: float | None, chance: float) -> float:
    """When a source is first due, on `now`'s clock. Pure; `chance` is from 0 to 1.

    An interval after its latest run that did not fail, whoever ran it; one that was never run, an interval from now on.
    At once if that time is over, but for the jitter.
    """
    jitter = JITTER * interval * chance
    return now + max(0.0, interval - (since_latest or 0.0)) + jitter


def next_start(begun: float, now: float, interval: float, chance: float) -> float:
    """When a source is due that was last begun at `begun`: not before `now`, and starts that were missed are left out.

    Pure; `chance` is from 0 to 1.
    """
    return max(now, begun + interval * (1 + JITTER * (2 * chance - 1)))


def lately(since: float, interval: float) -> bool:
    """Whether a run that began `since` seconds ago is so recent that it stands for the one that is due. Pure."""
    return since < interval * (1 - 2 * JITTER)


@dataclass
class Plan:
    """One source's schedule. `due` on the monotonic clock."""

    source: Source
    interval: float
    due: float
    task: asyncio.Task[None] | None = None
    last: str = "waiting"


def plan_json(plan: Plan, now: float, clock: datetime.datetime) -> dict[str, Any]:
    """A plan as /health shows it. `now` on the plan's clock, `clock` the same moment on the wall's. Pure."""
    due = clock + datetime.timedelta(seconds=max(0.0, plan.due - now))
    running = plan.last == "running"
    return {
        "interval_seconds": plan.interval,
        "last": plan.last,
        "next_start": None if running else due.isoformat(timespec="seconds"),
    }
