"""`headrace watchdog`: restarts workers of the local stack that have stopped committing."""

import asyncio
import contextlib

import structlog

from commands.output import fail
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from runtime.health import HealthServer
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from runtime.stop_signals import on_stop_signal
from services.watchdog import Watchdog

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


async def _run(dog: Watchdog, settings: Settings) -> None:
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    with HealthServer(settings.health_port, dog.health, "watchdog", settings.health_bind):
        log.info("watchdog_started", stall_seconds=settings.watchdog_stall_seconds)
        while not stopping.is_set():
            if settings.watchdog_stall_seconds:
                await dog.check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), dog.pause_seconds)
    log.info("watchdog_stopped")
