"""One load for many callers: with `SingleFlight` none gets a state that is older than its call, with `Shared` a bit."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """One load per key at a time; callers share one only if it begins after their call.

    Within one process and event loop. A caller that gives up does not stop the load for the others.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[T]] = {}
        self._next: dict[str, asyncio.Task[T]] = {}

    async def load(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a `load()` of this key that begins from now on. Raises what the load raises.

        While one is under way, everybody who asks waits for the one after it.
        """
        flight = self._next.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, load))
            self._next[key] = flight
            flight.add_done_callback(_look_at)
        return await asyncio.shield(flight)

    async def _fly(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if earlier := self._under_way.get(key):
            await asyncio.wait({earlier})
        flight = self._under_way[key] = self._next.pop(key)
        try:
            return await load()
        finally:
            if self._under_way[key] is flight:
                del self._under_way[key]


def _look_at(flight: asyncio.Task[Any]) -> None:
    # Every caller may have given up, and asyncio complains of errors that nobody saw.
    if not flight.cancelled():
        flight.exception()


class Shared(Generic[T]):
    """One load for all who ask within `seconds` of its begin, under way or done; an error is not kept.

    A caller waits for one load at most: when it takes longer than `seconds`, the next caller begins another.
    """

    def __init__(
        self, load: Callable[[], Coroutine[Any, Any, T]], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._began = 0.0
        self._flight: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The result; raises what the load raises."""
        flight = self._flight
        failed = flight is not None and flight.done() and (flight.cancelled() or flight.exception() is not None)
        if flight is None or failed or self._clock() >= self._began + self._seconds:
            self._began = self._clock()
            flight = self._flight = asyncio.create_task(self._load())
            flight.add_done_callback(_look_at)
        return flight.result() if flight.done() else await asyncio.shield(flight)
