"""Counts that several processes add up in Redis, by the minute: many of them in one round trip."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stores.redis_client import Redis

COUNTS_A_CALL = 256
"""Redis serves nobody else for a fraction of a millisecond meanwhile."""

_packed = msgspec.msgpack.Encoder().encode

# ARGV: time to live in s, keys of this window, keys of the one before, and what is to be added, as msgpack arrays.
# Returns for each key the sum now, and that of the window before.
ADD = """
local keys, before = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
local sums = {}
for i, more in ipairs(cmsgpack.unpack(ARGV[4])) do
  sums[2 * i - 1] = redis.call('INCRBY', keys[i], more)
  redis.call('EXPIRE', keys[i], ARGV[1])
  sums[2 * i] = tonumber(redis.call('GET', before[i]) or '0')
end
return sums
"""


class Sums(NamedTuple):
    """All processes' counts of a window and of the one before."""

    now: int
    before: int


class SharedCounts:
    """Adds to counts and reads them. Raises RedisError when Redis is gone; callers decide."""

    def __init__(self, client: Redis, prefix: str, seconds: int) -> None:
        """Windows last `seconds`, and are numbered; a count is forgotten when the window after its own is over."""
        self._prefix = prefix
        self._seconds = seconds
        self._add = client.register_script(ADD)

    async def add(self, window: int, names: Sequence[str], counts: Sequence[int]) -> list[Sums]:
        """Add to each name's count in the window. Not idempotent."""
        found: list[Sums] = []
        for start in range(0, len(names), COUNTS_A_CALL):
            some = names[start : start + COUNTS_A_CALL]
            keys, before = ([f"{self._prefix}:{number}:{name}" for name in some] for number in (window, window - 1))
            more = list(counts[start : start + COUNTS_A_CALL])
            sums = await self._add(args=[3 * self._seconds, _packed(keys), _packed(before), _packed(more)])
            found += [Sums(int(now), int(then)) for now, then in zip(sums[::2], sums[1::2], strict=True)]
        return found

    async def try_out(self) -> None:
        """Add nothing to nobody's count. Raises RedisError, also where our user lacks a right to it."""
        await self.add(0, ["(trial)"], [0])
