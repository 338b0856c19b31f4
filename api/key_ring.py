"""The API keys as Postgres has them, held in memory: asking Postgres for each request would make every read need it."""

import asyncio
import datetime
import hmac
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from api.access import Caller, Scope, unauthorized
from api.database import reading, writing
from api.single_flight import Shared
from stores.api_keys import ApiKey, digest_of, id_of, note_uses, read_keys
from stores.outages import TableMisfit, Unavailable

log = structlog.get_logger()

REFRESH_SECONDS = 3.0
"""Between two readings of all keys: a revoked one is refused after so long, and the time that a reading takes."""

AGAIN_SECONDS = 0.1
"""Between two readings because of keys that are not known: a new one works after so long at the latest, and no flood
of wrong ones asks Postgres more often."""

FRESH_SECONDS = 15.0
"""Keys that were read longer ago count as old: Postgres is away. Old keys only read."""

KEPT_SECONDS = 900.0
"""Old keys read for so long without Postgres: it is when a revocation would not be heard of either."""

USES_SECONDS = 60.0
"""Between two notes in Postgres of when keys were used last."""

READS = frozenset({Scope.READ, Scope.PERSONAL})

_NO_KEY = ApiKey("", "", bytes(32), frozenset(), datetime.datetime.now(datetime.UTC), None, None, None)
"""Stands in for a key whose id is not known: nothing has this digest."""


class KeyRing:
    """Knows keys by their text. `clock` counts seconds. To be started within the event loop, and closed."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._callers: dict[str, Caller] = {}
        self._read_at = float("-inf")
        self._reading = Shared(self._read, AGAIN_SECONDS, clock)
        self._uses: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._lost = False

    def start(self) -> None:
        """Read the keys from now on."""
        self._task = asyncio.create_task(self._keep_reading())

    async def close(self) -> None:
        """Stop, and note uses that are not noted yet, if Postgres answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._note_uses()

    async def caller(self, key: str) -> tuple[Caller, Exception | None]:
        """The caller whose key it is, and what to answer where it may not do something although the key may.

        The second is about keys that are old, because Postgres is away: such keys only read. Raises ProblemAnswer (401)
        for one that is unknown, expired or revoked, and what `reading` raises where only Postgres could tell.
        """
        key_id = id_of(key)
        if key_id is None:
            raise unauthorized("invalid-key", "This is no API key: they look like hr_<id>_<secret>")
        age = self._clock() - self._read_at
        found = self._compared(key_id, key)
        if found is None or age > KEPT_SECONDS:
            # An unknown id and a wrong secret take the same way: the key may be newer than what is known here.
            await self._reading.get()
            age = self._clock() - self._read_at
            found = self._compared(key_id, key)
        if found is None:
            raise unauthorized("invalid-key", "This API key is not known; `headrace keys list` shows all")
        if found.state != "valid":
            detail = f"The API key {found.name!r} ({found.id}) is {found.state}; `headrace keys rotate` makes a new one"
            raise unauthorized(f"key-{found.state}", detail)
        self._uses[found.id] = time.time()
        if age <= FRESH_SECONDS:
            return self._callers[found.id], None
        doubt = Unavailable("postgres", f"API keys were read {age:.0f} s ago, and only read until it is back")
        return Caller(found.name, found.scopes & READS), doubt

    def _compared(self, key_id: str, key: str) -> ApiKey | None:
        """The key with that text; None if there is none. Takes as long for an unknown id as for a wrong secret."""
        kept = self._keys.get(key_id, _NO_KEY)
        same = hmac.compare_digest(digest_of(key), kept.digest)
        return kept if same and kept is not _NO_KEY else None

    async def _read(self) -> None:
        began = self._clock()
        async with reading(self._engine) as connection:
            keys = await read_keys(connection)
        self._keys = {key.id: key for key in keys}
        self._callers = {key.id: Caller(key.name, key.scopes) for key in keys}
        self._read_at = began

    async def _keep_reading(self) -> None:
        noted = self._clock()
        while True:
            try:
                await self._reading.get()
                if self._lost:
                    log.info("keys_readable")
                self._lost = False
                if self._clock() >= noted + USES_SECONDS:
                    await self._note_uses()
                    noted = self._clock()
            except (Unavailable, TableMisfit) as error:
                if not self._lost:
                    log.warning("keys_unreadable", reason=str(error))
                self._lost = True
            except Exception:
                log.exception("keys_unreadable")  # whatever it is, the next reading is tried
            await asyncio.sleep(REFRESH_SECONDS)

    async def _note_uses(self) -> None:
        uses, self._uses = self._uses, {}
        if uses:
            with suppress(Unavailable, TableMisfit):  # the next use is noted
                async with writing(self._engine) as connection:
                    await note_uses(connection, uses)
