"""The watchdog: reads the lag, judges it, and has processes of the local stack restarted that commit nothing."""

import asyncio
import math
import time
from typing import Any

import structlog

from local_stack.programs import health_of_group
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from monitoring.lag import group_topics, read_lag
from monitoring.progress import Sample, Stall, forget_before, stalled, to_restart
from runtime.instruments import from_zero
from runtime.kafka.trouble import KafkaTrouble
from runtime.metrics import RESTARTS
from runtime.settings import Settings

LONGEST_PAUSE_SECONDS = 10.0
"""Between two readings; a fifth of the limit where that is shorter."""

log = structlog.get_logger()


class Watchdog:
    """Call `check` on one event loop; `health` may be called from any thread."""

    def __init__(self, settings: Settings, state: StateFolder) -> None:
        self._settings = settings
        self._state = state
        self._limit = float(settings.watchdog_stall_seconds)
        self._samples: list[Sample] = []
        self._kafka = KafkaTrouble()
        self._spared: set[str] = set()
        self._explained_at: dict[str, float] = {}
        self._restarts = 0
        # Offsets that a group had before it was restarted say nothing about its new processes.
        self._groups = {settings.named(group): group for group in group_topics(settings)}
        self._since = dict.fromkeys(self._groups, 0.0)
        from_zero(RESTARTS, self._groups)
        self.pause_seconds = min(LONGEST_PAUSE_SECONDS, max(self._limit / 5, 0.5))

    def health(self) -> dict[str, Any]:
        """Details for the health server. A broker that does not answer is no fault of the watchdog."""
        return {
            "state": "watching" if self._limit else "off",
            "stall_seconds": self._limit,
            "restarts": self._restarts,
            "kafka": self._kafka.problem or "answers",
        }

    async def check(self) -> None:
        """Read the lag once, and restart what has stalled."""
        await self._read()
        now = time.monotonic()
        self._samples = forget_before(self._samples, now - 2 * self._limit - LONGEST_PAUSE_SECONDS)
        for group in self._groups:
            samples = forget_before(self._samples, self._since[group])
            stalls = [stall for stall in stalled(samples, now, self._limit) if stall.group == group]
            if stalls:
                await self._help(group, stalls)
            else:
                self._spared.discard(group)

    async def _read(self) -> None:
        rows = None
        with self._kafka.noted():
            rows = tuple(await read_lag(self._settings))
        self._samples.append(Sample(time.monotonic(), rows))

    async def _help(self, group: str, stalls: list[Stall]) -> None:
        role = self._groups[group]
        answers = await asyncio.to_thread(health_of_group, self._state.read_record(), role)
        names = to_restart(stalls, answers)
        worst = max(stalls, key=lambda stall: stall.lag)
        why = f"{worst.place}: {worst.lag} records wait, nothing committed for {worst.seconds:.0f} s"
        if not names:
            if group not in self._spared:
                log.info("stall_explained", group=group, reason=why, health=answers)
            self._spared.add(group)
            self._explained_at[group] = time.monotonic()
            return
        if time.monotonic() - self._explained_at.get(group, -math.inf) < self._limit:
            return  # what held it up has only just ended; its first commit is still to come
        log.warning("restarting_stalled", group=group, processes=names, reason=why, health=answers)
        if not await asyncio.to_thread(Supervisor(self._state).restart_stalled, names):
            log.warning("restart_postponed", group=group, processes=names)
            return
        self._since[group] = time.monotonic()
        self._restarts += len(names)
        RESTARTS.labels(group).inc(len(names))
        for name in names:
            self._state.remember_watchdog_restart(name, group, why)
        log.info("restarted", group=group, processes=names)
