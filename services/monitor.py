"""The monitor: samples all consumer groups every few seconds, keeps the window, and hands each view on.

The window is in Postgres, so that it survives a restart and whoever shows the lag has it too. While Postgres is away it
is in memory, and saved once Postgres is back.
"""

import asyncio
import contextlib
import datetime
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from monitoring.groups_reader import GroupsReader
from monitoring.history import Minutes
from monitoring.lag import our_groups
from monitoring.samples import Sample
from monitoring.view import SystemLag, view_of, view_of_nothing
from monitoring.watching import packed, unpacked
from monitoring.window import LONGEST_STEP_SECONDS, SAMPLE_SECONDS, WINDOW_SECONDS, Window
from runtime.kafka.trouble import KafkaTrouble
from runtime.settings import Settings
from stores.lag_samples import LagSamples

Listener = Callable[[SystemLag], Awaitable[None]]
"""Is handed each new view, every SAMPLE_SECONDS; while the broker is away the last one, whose `away_since` tells it.

It has no groups while the broker has not answered since the window began.
"""

FORGET_EVERY_SECONDS = 60.0

log = structlog.get_logger()


class Monitor:
    """`run` belongs to one event loop; `health` may be called from any thread. Metrics and alarms are `listeners`."""

    def __init__(self, settings: Settings, listeners: Sequence[Listener] = ()) -> None:
        self._settings = settings
        self._listeners = listeners
        self._ours = our_groups(settings)
        self._reader = GroupsReader(settings, self._ours)
        self._samples = LagSamples(settings)
        self._window = Window()
        self._minutes = Minutes()
        self._loaded = False
        self._own: deque[Sample] = deque(maxlen=int(WINDOW_SECONDS / SAMPLE_SECONDS))
        self._unsaved: deque[tuple[float, bytes]] = deque(maxlen=int(WINDOW_SECONDS / SAMPLE_SECONDS))
        self._unsaved_minutes: deque[tuple[datetime.datetime, dict[str, Any]]] = deque(maxlen=60)
        self._forgot_at = 0.0
        self._kafka = KafkaTrouble()
        self._view: SystemLag | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Sample until `stopping` is set. Nothing that Kafka, Postgres or a listener does ends it."""
        try:
            while not stopping.is_set():
                await self.sample()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), SAMPLE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._reader.close()
        await self._samples.close()

    async def sample(self) -> SystemLag | None:
        """Sample once: read, judge, keep, hand on. The view, if the broker has ever answered."""
        sample = Sample(time.time(), None)
        try:
            with self._kafka.noted():
                sample = await self._reader.read()
        except Exception:
            # The broker also hands on what clients of others made up.
            log.exception("not_sampled")
        await self._load()
        if not self._loaded:
            self._own.append(sample)
        self._window.add(sample)
        self._unsaved.append((sample.at, packed(sample)))
        self._view = view = view_of(self._window, self._ours, now=time.time())
        if view is not None and sample.groups is not None and (minute := self._minutes.add(view)):
            self._unsaved_minutes.append(minute)
        await self._save()
        handed_on = view
        if handed_on is None and self._window.away_since is not None:
            handed_on = view_of_nothing(self._window.away_since)
        if handed_on is not None:
            for listener in self._listeners:
                try:
                    await listener(handed_on)
                except Exception:
                    log.exception("listener_failed", listener=getattr(listener, "__qualname__", repr(listener)))
        return view

    def health(self) -> dict[str, Any]:
        """Details for the health server. A broker or a Postgres that does not answer is no fault of the monitor."""
        view = self._view
        return {
            "state": "sampling",
            "verdict": None if view is None else view.verdict,
            "window_seconds": 0.0 if view is None else view.window_seconds,
            "kafka": self._kafka.problem or "answers",
            "postgres": self._samples.problem or "answers",
        }

    async def _load(self) -> None:
        """Take over the window of the monitor that ran before, once Postgres answers."""
        if self._loaded:
            return
        now = time.time()
        bodies = await self._samples.load(now - WINDOW_SECONDS, now + LONGEST_STEP_SECONDS)
        if bodies is None:
            return
        self._loaded = True
        self._window = Window([*unpacked(bodies), *self._own])
        self._own.clear()
        log.info("window_loaded", samples=len(bodies))

    async def _save(self) -> None:
        """Save what is not saved yet; what Postgres does not take now waits, within bounds."""
        if not self._loaded or not await self._samples.save(list(self._unsaved)):
            return
        self._unsaved.clear()
        while self._unsaved_minutes:
            minute, figures = self._unsaved_minutes[0]
            if not await self._samples.save_minute(minute, figures):
                break
            self._unsaved_minutes.popleft()
        await self._forget()

    async def _forget(self) -> None:
        """Delete what is too old, whatever else Postgres refuses; at once when the clock has been set back."""
        now = datetime.datetime.now(datetime.UTC)
        if 0 <= now.timestamp() - self._forgot_at < FORGET_EVERY_SECONDS:
            return
        if await self._samples.forget(
            samples_before=now.timestamp() - 2 * WINDOW_SECONDS,
            samples_after=now.timestamp() + LONGEST_STEP_SECONDS,  # of a clock that has been set back
            minutes_before=now - datetime.timedelta(hours=self._settings.lag_history_hours),
        ):
            self._forgot_at = now.timestamp()
