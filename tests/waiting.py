"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 60.0


def eventually(condition: Callable[[], T], *, what: str, within: float = PATIENCE_SECONDS, every: float = 0.1) -> T:
    """The first truthy value of `condition`. Fails the test after `within` seconds, showing the last value or error."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            if value := condition():
                return value
            last = value
        except Exception as error:  # noqa: BLE001 (a server that is not up yet may fail in any way)
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last: {last!r}")
        time.sleep(every)


async def eventually_async(
    condition: Callable[[], Awaitable[T]], *, what: str, within: float = PATIENCE_SECONDS, every: float = 0.05
) -> T:
    """`eventually` for async code."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            if value := await condition():
                return value
            last = value
        except Exception as error:  # noqa: BLE001 (as above)
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last: {last!r}")
        await asyncio.sleep(every)


async def wait_until_nothing_is_open() -> None:
    """Every connection of the running loop is closed, of those that somebody has closed and not waited for.

    asyncio and asyncpg end TLS in the background. A loop that ends before leaves the transport to a later test, which
    fails by it.
    """
    loop: Any = asyncio.get_running_loop()

    async def nothing_is_open() -> bool:
        return len(loop._selector.get_map()) == 1  # the loop's own pipe

    await eventually_async(nothing_is_open, what="every connection is closed")
