"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
