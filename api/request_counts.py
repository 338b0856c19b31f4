"""Requests of each caller in the last minute, by a sliding window: counted here, and added up in Redis each second.

A request is judged by what this process knows, which costs it no round trip. Other processes' requests are known a
second later, and without Redis not at all: each process then has the limits to itself.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from api.clients import Breaker
from runtime.settings import Settings
from stores.redis_client import Redis, RedisError
from stores.shared_counts import SharedCounts

WINDOW_SECONDS = 60

SETTLE_SECONDS = 1.0

SETTLED_FROM = 0.1
"""Of a limit: who asks for less need not be known to the other processes."""

MOST_CALLERS = 50_000
"""Counts that are kept. Callers beyond share one, but for those with a key and webhooks: only addresses can be made
up.
"""

KEY, WEBHOOK = "key ", "webhook "
"""Begin the name of a caller who has shown a key, and of a source whose sender has signed; no address begins so."""

OTHERS = "others"


class Kind(StrEnum):
    """Each has a limit of its own."""

    READS = "reads"
    CHANGES = "changes"
    EXPENSIVE = "expensive"


def limits_of(settings: Settings) -> dict[Kind, int]:
    """Requests of a caller within a minute, by kind; 0 is no limit. Pure."""
    return {
        Kind.READS: settings.api_reads_per_minute,
        Kind.CHANGES: settings.api_changes_per_minute,
        Kind.EXPENSIVE: settings.api_expensive_per_minute,
    }


def shared_counts(redis: Redis, settings: Settings) -> SharedCounts:
    """The counts that all processes add up. Pure."""
    return SharedCounts(redis, settings.named("requests"), WINDOW_SECONDS)


@dataclass(slots=True)
class Count:
    """A caller's requests of a kind in one window of the clock, and in the one before."""

    window: int
    here: int = 0
    elsewhere: int = 0
    before: int = 0
    settled: int = 0
    """Of `here`: known to Redis."""

    def move_to(self, window: int) -> None:
        """Begin the window, if it is another one."""
        if window != self.window:
            self.before = self.here + self.elsewhere if window == self.window + 1 else 0
            self.window, self.here, self.elsewhere, self.settled = window, 0, 0, 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The limit, what is left of it after this request, and seconds until there is more; `wait` if it is refused."""

    limit: int
    left: int
    reset: int
    wait: int = 0


def judge(count: Count, limit: int, now: float) -> Verdict:
    """Count a request at that time (s since the epoch), unless it is one too many.

    The window before counts by the part of it that lies within the last minute, as if its requests had been spread.
    """
    window, passed = divmod(now, WINDOW_SECONDS)
    count.move_to(int(window))
    part = passed / WINDOW_SECONDS
    asked = count.here + count.elsewhere
    left = limit - asked - count.before * (1 - part) - 1
    reset = math.ceil(WINDOW_SECONDS - passed)
    if left >= 0:
        count.here += 1
        return Verdict(limit, int(left), reset)
    # So much of the window that counts less and less has to have passed: of the one before, or of this one, later.
    room = limit - 1 - asked
    until = 1 - room / count.before if room >= 0 and count.before else 2 - max(0, limit - 1) / max(1, asked)
    return Verdict(limit, 0, reset, max(1, math.ceil((until - part) * WINDOW_SECONDS)))


class RequestCounts:
    """Every caller's count of every kind. Within one event loop."""

    def __init__(self, limits: Mapping[Kind, int], clock: Callable[[], float] = time.time) -> None:
        """`limits` are requests a minute, 0 for as many as there are; `clock` is the same for all processes."""
        self._limits = limits
        self._clock = clock
        self._counts: dict[tuple[Kind, str], Count] = {}
        self._tidied = 0
        self._settling: asyncio.Task[None] | None = None

    def share(self, shared: SharedCounts, redis: Breaker) -> None:
        """Settle with other processes, once a second from now on. To be closed."""
        if any(self._limits.values()):
            self._settling = asyncio.create_task(self._settle_again_and_again(shared, redis))

    async def close(self) -> None:
        while self._settling and not self._settling.done():
            # More than once: before Python 3.12 what redis-py sends by can take a cancellation for its own.
            self._settling.cancel()
            await asyncio.wait({self._settling}, timeout=SETTLE_SECONDS)

    def ask(self, kind: Kind, caller: str) -> Verdict | None:
        """The verdict on one more request, which is counted; None where there is no limit."""
        if not (limit := self._limits[kind]):
            return None
        now = self._clock()
        count = self._counts.get((kind, caller))
        if count is None:
            count = self._new_count(kind, caller, int(now // WINDOW_SECONDS))
        return judge(count, limit, now)

    def refusal(self, kind: Kind, caller: str) -> Verdict | None:
        """The verdict on one more request if it is refused. Nothing is counted."""
        if (count := self._counts.get((kind, caller))) is None:
            return None
        verdict = judge(replace(count), self._limits[kind], self._clock())
        return verdict if verdict.wait else None

    def _new_count(self, kind: Kind, caller: str, window: int) -> Count:
        if len(self._counts) >= MOST_CALLERS and self._tidied != window:
            self._tidied = window
            self._counts = {name: count for name, count in self._counts.items() if count.window >= window - 1}
        alone = caller.startswith((KEY, WEBHOOK)) or len(self._counts) < MOST_CALLERS
        return self._counts.setdefault((kind, caller if alone else OTHERS), Count(window))

    async def settle(self, shared: SharedCounts) -> bool:
        """Tell Redis what is new, and learn of the others' requests; False if there was nothing to tell.

        Raises RedisError, OSError.
        """
        window = int(self._clock() // WINDOW_SECONDS)
        new = [
            (name, count, count.here)
            for name, count in self._counts.items()
            if count.window == window
            and count.here > count.settled
            and count.here >= SETTLED_FROM * self._limits[name[0]]
        ]
        if not new:
            return False
        names = [_hidden(*name) for name, _, _ in new]
        sums = await shared.add(window, names, [here - count.settled for _, count, here in new])
        for (_, count, here), sum_ in zip(new, sums, strict=True):
            if count.window == window:
                count.settled, count.elsewhere = here, max(0, sum_.now - here)
                count.before = max(count.before, sum_.before)
        return True

    async def _settle_again_and_again(self, shared: SharedCounts, redis: Breaker) -> None:
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            if redis.closed:
                try:
                    if await self.settle(shared):
                        redis.succeeded()
                except (RedisError, OSError) as error:
                    redis.failed(error)


def _hidden(kind: Kind, caller: str) -> str:
    """A name for Redis, which need not know who asks."""
    return f"{kind}:{hashlib.blake2b(caller.encode(), digest_size=12).hexdigest()}"
