"""Requests of one source, evenly spaced: never more a second than it allows, however many are in flight."""

import asyncio
import time


class RateLimit:
    """Gives out turns `1 / per_second` apart; without a limit at once. For one event loop.

    A turn has its place on a fixed grid while callers queue for it: that one of them wakes up late moves none of the
    later turns, so over a window the rate is the one asked for.
    """

    def __init__(self, per_second: float | None) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next turn. Turns are given in order of asking."""
        if not self._interval:
            return
        now = time.monotonic()
        mine = max(self._next, now)
        self._next = mine + self._interval
        if mine > now:
            await asyncio.sleep(mine - now)
