"""The life of a sink's process and of the relay's: run until a signal, wait out outages, drain."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog
import uvloop

from runtime.errors import Backpressure
from runtime.health import HealthServer
from runtime.memory import share_memory_among_threads
from runtime.settings import Settings
from runtime.stop_signals import on_stop_signal
from sinks.state import SinkState

FIRST_WAIT_SECONDS = 0.2
"""Backoff while a store is down: doubled each time up to what the verdict says, each wait drawn from its upper half."""

DRAIN_SECONDS = 6.0
"""After SIGTERM a batch in hand has this long to be written, confirmed and committed; then it is left to redelivery."""

SWITCH_SECONDS = 0.0005
"""Longest time for which one thread keeps the interpreter from the others. With the default of 5 ms, each of the few
exchanges with the store would wait that long for the thread that prepares the next batch."""

log = structlog.get_logger()

T = TypeVar("T")


class Stopped(Exception):
    """The process is to stop while it waits for a store: the batch in hand is left to redelivery."""


def run_in_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run on a fast event loop that gets its turn while another thread prepares the next batch."""
    sys.setswitchinterval(SWITCH_SECONDS)
    share_memory_among_threads()
    return uvloop.run(main)


def run_until_signal(
    work: Callable[[], Coroutine[Any, Any, None]],
    stop: Callable[[], None],
    health: Callable[[], dict[str, Any]],
    settings: Settings,
    role: str,
) -> None:
    """Work until SIGTERM or SIGINT calls `stop`, with a health server that says what this `role` counts. Blocking.

    Raises what the work raises. `health` is called from another thread.
    """

    async def main() -> None:
        on_stop_signal(stop)
        with HealthServer(settings.health_port, health, role, settings.health_bind):
            await work()

    run_in_loop(main())


async def run_and_drain(
    work: Coroutine[Any, Any, None], stopping: asyncio.Event, *beside: Coroutine[Any, Any, None], **told: str
) -> None:
    """Run the work until it ends, or until DRAIN_SECONDS after it is to stop, or after something beside it has ended.

    Raises what the work, or something beside it, raises. `told` is logged with a batch that is abandoned.
    """
    main, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    others = [asyncio.create_task(one) for one in beside]
    try:
        await asyncio.wait({main, stop, *others}, return_when=asyncio.FIRST_COMPLETED)
        for one in others:
            if one.done():
                await one
        await asyncio.wait({main}, timeout=DRAIN_SECONDS)
        if main.done():
            await main
        else:
            log.warning("batch_abandoned", **told)
    finally:
        for task in (main, stop, *others):
            task.cancel()


async def through_outages(
    attempt: Callable[[], Awaitable[T]], state: SinkState, wait: Callable[[float], Awaitable[None]]
) -> T:
    """Try until it succeeds. `wait` is given the seconds until the next try, and raises Stopped to end it."""
    failures = 0
    while True:
        try:
            result = await attempt()
        except Backpressure as verdict:
            state.store_is_down(verdict)
            longest = min(verdict.longest_wait_seconds, FIRST_WAIT_SECONDS * 2**failures)
        else:
            state.store_answers()
            return result
        failures = min(failures + 1, 10)
        await wait(longest * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load, guards no secret)
