"""One load per key at a time: callers that ask meanwhile share its result."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Within one process and event loop. A caller that gives up does not stop the load for the others."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[T]] = {}

    async def load(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `load()`, or of the one already under way for `key`. Raises what the load raises."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(load())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(flight)

    def _land(self, key: str, flight: asyncio.Task[T]) -> None:
        del self._flights[key]
        # Looked at here, because every caller may have given up, and asyncio complains of errors that nobody saw.
        if not flight.cancelled():
            flight.exception()
