"""`headrace watchdog`: restarts workers of the local stack that have stopped committing."""

import asyncio
import contextlib
import math
import signal
import time
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import KafkaException
from prometheus_client import Counter

from commands.output import fail
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from local_stack.watchdog_restarts import WatchdogRestart, health_of_group, remember, restart
from monitoring.lag import group_topics, read_lag
from monitoring.progress import Sample, Stall, forget_before, stalled, to_restart
from runtime.health import HealthServer
from runtime.kafka.clients import reason
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings

LONGEST_PAUSE_SECONDS = 5.0
"""Between two looks; a fifth of the limit where that is shorter."""

RESTARTS = Counter("headrace_watchdog_restarts", "Processes restarted because their group stalled", ["group"])

log = structlog.get_logger()


def watchdog() -> None:
    """Restart workers and sinks whose group has lag and commits nothing for WATCHDOG_STALL_SECONDS.

    Part of the local stack; `headrace up` runs it. A sink that waits for its store is left alone, and nobody is blamed
    while the broker does not answer. `headrace status` counts the restarts, `headrace logs watchdog` gives the reasons.

    Example:

      HEALTH_PORT=8106 WATCHDOG_STALL_SECONDS=30 headrace watchdog
    """
    settings = load_settings()
    configure_logging(settings, "watchdog")
    state = StateFolder.at(settings.home)
    if not Supervisor(state).is_running():
        fail(f"No stack is running in {state.home}, so there is nothing to restart. Start one with: headrace up")
    asyncio.run(_run(Watchdog(settings, state), settings))


async def _run(dog: "Watchdog", settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with HealthServer(settings.health_port, dog.health):
        log.info("watchdog_started", stall_seconds=settings.watchdog_stall_seconds)
        while not stopping.is_set():
            if settings.watchdog_stall_seconds:
                await dog.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), dog.pause_seconds)
    log.info("watchdog_stopped")


class Watchdog:
    """Looks at the lag, and acts. `look` belongs to one event loop; `health` may be called from any thread."""

    def __init__(self, settings: Settings, state: StateFolder) -> None:
        self._settings = settings
        self._state = state
        self._limit = float(settings.watchdog_stall_seconds)
        self._samples: list[Sample] = []
        self._kafka_problem: str | None = None
        self._spared: set[str] = set()
        self._explained_at: dict[str, float] = {}
        self._restarts = 0
        # Offsets that a group had before it was restarted say nothing about its new processes.
        self._groups = {settings.named(group): group for group in group_topics(settings)}
        self._since = dict.fromkeys(self._groups, 0.0)
        self.pause_seconds = min(LONGEST_PAUSE_SECONDS, max(self._limit / 5, 0.5))

    def health(self) -> dict[str, Any]:
        """What /health shows. A broker that does not answer is no fault of the watchdog."""
        return {
            "state": "watching" if self._limit else "off",
            "stall_seconds": self._limit,
            "restarts": self._restarts,
            "kafka": self._kafka_problem or "answers",
        }

    async def look(self) -> None:
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
        problem = None
        try:
            rows = tuple(await read_lag(self._settings))
        except KafkaException as error:
            problem = reason(error)
        if problem and not self._kafka_problem:
            log.warning("kafka_lost", problem=problem)
        elif self._kafka_problem and not problem:
            log.info("kafka_back")
        self._kafka_problem = problem
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
        if not await asyncio.to_thread(restart, self._state, names):
            log.warning("restart_postponed", group=group, processes=names)
            return
        self._since[group] = time.monotonic()
        self._restarts += len(names)
        RESTARTS.labels(group).inc(len(names))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        for name in names:
            remember(self._state, WatchdogRestart(at, name, group, why))
        log.info("restarted", group=group, processes=names)
