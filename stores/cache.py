"""The read cache in Redis: filled by readers, invalidated by the sink, and never stale.

One hash per record, `{data, form, version, floor, lease}`. A reader who finds nothing takes a *lease* before it asks
Postgres, and a fill is taken only while that lease is known. An invalidation leaves the version it announced as a
*floor*, and a fill with an older version is refused: a reader who read Postgres before a commit cannot fill the cache
after it. Absence is cached too, as version 0 with empty data.

`form` is the declaration that the data is of: what another one has left, before a deploy or beside it, is read as if
it was not there. Whatever else is in the place of an entry is thrown away by who writes there.

A floor is needed only beside a lease (decision 0044). Whatever loses the floor, as a restart without a disk, has lost
the lease with it; and where nobody has a lease, an invalidation leaves nothing, however many records change. Each step
is one Lua script, atomic in Redis.
"""

import hashlib
import random
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from stores.batched_reads import BatchedReads
from stores.redis_client import Redis, ResponseError

ABSENT = b""

TRIAL = "(trial)"
"""In the place of a dataset's name, which has no such characters."""

READ_SECONDS = 0.5
"""A cache that is slower than the database it spares is of no use."""

ENTRIES_A_CALL = 256
"""Redis serves nobody else while it invalidates as many: 0.3 ms, or 1.5 ms if each of them has an entry."""

_packed = msgspec.msgpack.Encoder().encode

# ARGV: time to live of a floor in ms, entries and versions as two msgpack arrays: they cost the client a tenth of what
# as many arguments do. Where there is no entry there is no lease, so no floor is needed.
INVALIDATE = """
local entries, versions = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
if redis.call('EXISTS', unpack(entries)) == 0 then return end
for i, entry in ipairs(entries) do
  local known = redis.pcall('HMGET', entry, 'floor', 'version', 'lease')
  local version, floor, held = versions[i], tonumber(known[1] or '') or 0, tonumber(known[2] or '') or -1
  if known.err then
    if not string.find(known.err, 'WRONGTYPE') then return known end
    redis.call('PEXPIRE', entry, 0)
  elseif (known[1] or known[2] or known[3]) and version > math.max(floor, held) then
    redis.call('HSET', entry, 'floor', string.format('%.0f', version))
    redis.call('HDEL', entry, 'version', 'data')
    redis.call('PEXPIRE', entry, math.max(tonumber(ARGV[1]), redis.call('PTTL', entry)))
  end
end
"""

# KEYS[1] entry; ARGV: a new lease, its time to live in ms, form. Returns what is cached in this form (false if nothing
# is) and the lease.
LEASE = """
local found = redis.pcall('HMGET', KEYS[1], 'data', 'lease', 'form')
if found.err then
  if not string.find(found.err, 'WRONGTYPE') then return found end
  redis.call('PEXPIRE', KEYS[1], 0)
  found = {}
end
if found[1] and found[3] == ARGV[3] then return {found[1], ''} end
if not found[2] then redis.call('HSET', KEYS[1], 'lease', ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1])))
return {false, found[2] or ARGV[1]}
"""

# KEYS[1] entry; ARGV: version, data, time to live in ms, lease, form. Returns 1 if taken, 0 if it may be too old. A
# floor lives on as long as it must; a lease alone does not make an absence be remembered for longer.
FILL = """
local version = tonumber(ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'lease', 'floor', 'version')
if known[1] ~= ARGV[4] then return 0 end
if version < (tonumber(known[2] or '') or 0) then return 0 end
if version < (tonumber(known[3] or '') or -1) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2], 'form', ARGV[5])
local kept = known[2] and redis.call('PTTL', KEYS[1]) or 0
redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), kept))
return 1
"""


class Invalidation(NamedTuple):
    """A record of `dataset` with that key is now at `version`."""

    dataset: str
    key: str
    version: int


@dataclass(frozen=True)
class Lease:
    """The right to fill an entry. Readers who miss it at the same time have the same one."""

    entry: str
    token: bytes
    form: bytes


def form_of(dataset: Dataset) -> bytes:
    """A name for what a record's JSON consists of, by its declaration. Pure."""
    declared = [(field.name, field.type.json_type) for field in dataset.fields]
    return hashlib.blake2b(repr((dataset.serial_id, declared)).encode(), digest_size=6).hexdigest().encode()


class VersionedCache:
    """Reads, fills and invalidates. Raises RedisError when Redis is gone; callers decide."""

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._prefix = settings.named("cache")
        self._ttl_ms = settings.cache_ttl_seconds * 1000
        self._missing_ttl_ms = settings.cache_missing_ttl_seconds * 1000
        self._floor_ttl_ms = settings.cache_floor_ttl_seconds * 1000
        self._forms = {dataset.name: form_of(dataset) for dataset in all_datasets()} | {TRIAL: b""}
        self._reads = BatchedReads(client, ("data", "form"), READ_SECONDS)
        self._lease = client.register_script(LEASE)
        self._fill = client.register_script(FILL)
        self._invalidate = client.register_script(INVALIDATE)

    def entry(self, dataset: str, key: str) -> str:
        """The Redis key of a record's entry."""
        return f"{self._prefix}:{dataset}:{key}"

    async def get(self, dataset: str, key: str) -> bytes | None:
        """The cached JSON, ABSENT (empty) if the record is known not to exist, None if nothing is cached."""
        try:
            data, form = await self._reads.get(self.entry(dataset, key))
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return None
        return data if form == self._forms[dataset] else None

    async def get_or_lease(self, dataset: str, key: str) -> bytes | Lease:
        """The cached JSON, or a lease to fill the entry with what Postgres answers from now on."""
        entry, lease, form = self.entry(dataset, key), secrets.token_hex(8), self._forms[dataset]
        data, held = await self._lease(keys=[entry], args=[lease, self._floor_ttl_ms, form])
        if data is None:
            return Lease(entry, _as_bytes(held), form)
        return _as_bytes(data)

    async def fill(self, lease: Lease, version: int, data: bytes) -> bool:
        """Cache what was read from Postgres under this lease; ABSENT with version 0 for a missing record.

        False if refused: a newer version is known by now, or nobody can tell any more. The time to live is spread by a
        tenth, so entries filled together do not expire together.
        """
        ttl = self._ttl_ms if data else self._missing_ttl_ms
        spread = round(ttl * random.uniform(0.9, 1.1))  # noqa: S311 (spreads load, guards no secret)
        return bool(await self._fill(keys=[lease.entry], args=[version, data, spread, lease.token, lease.form]))

    async def invalidate(self, invalidations: Iterable[Invalidation]) -> None:
        """Forget older versions, and refuse them to whoever has a lease. Idempotent, in any order."""
        entries, versions = [], []
        for dataset, key, version in invalidations:
            entries.append(self.entry(dataset, key))
            versions.append(version)
        for start in range(0, len(entries), ENTRIES_A_CALL):
            part = slice(start, start + ENTRIES_A_CALL)
            await self._invalidate(args=[self._floor_ttl_ms, _packed(entries[part]), _packed(versions[part])])

    async def try_out(self) -> None:
        """Do with an entry of no record what is done with those of records: read, lease, fill, invalidate.

        Raises RedisError, also where our user lacks a right to any of it, or Redis takes no writes.
        """
        version = time.time_ns() // 1_000_000  # above the one before, which is the floor now
        await self.get(TRIAL, "")
        lease = await self.get_or_lease(TRIAL, "")
        if isinstance(lease, Lease):
            await self.fill(lease, version, ABSENT)
        await self.invalidate([Invalidation(TRIAL, "", version + 1)])


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
