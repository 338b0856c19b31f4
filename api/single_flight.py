"""One load per key at a time. Callers share a load only if it begins after their call: none gets an older state."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Within one process and event loop. A caller that gives up does not stop the load for the others."""

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
