"""Keys of the deliveries that were published: one that comes again with the same key is not published again.

A key is claimed before the records are published, for a while, and remembered once the broker has confirmed them all:
who dies in between has answered nobody, so the sender sends again, and finds the claim run out. So a delivery is never
lost, and one that was answered is never published a second time while its key is remembered.
"""

import hashlib
import uuid
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.settings import Settings
from stores.outages import Unavailable, postgres_trouble
from stores.postgres_engine import postgres_engine

CONNECTIONS = 5
"""None is held while Kafka is waited for."""

SECONDS = 3.0
LONGEST_KEY = 255
PURGED_AT_ONCE = 100

_CLAIM = text("""
    INSERT INTO webhook_deliveries AS known (source, key, digest, claim, forget_at)
    VALUES (:source, :key, :digest, :claim, now() + make_interval(secs => :seconds))
    ON CONFLICT (source, key) DO UPDATE
    SET digest = EXCLUDED.digest, claim = EXCLUDED.claim, accepted = NULL, forget_at = EXCLUDED.forget_at
    WHERE known.forget_at < now() RETURNING true""")
_KNOWN = text("SELECT accepted, digest FROM webhook_deliveries WHERE source = :source AND key = :key")
_REMEMBER = text("""
    UPDATE webhook_deliveries SET accepted = :accepted, forget_at = now() + make_interval(secs => :seconds)
    WHERE source = :source AND key = :key AND claim = :claim RETURNING true""")
_RELEASE = text("DELETE FROM webhook_deliveries WHERE source = :source AND key = :key AND claim = :claim")
_PURGE = text(f"""
    DELETE FROM webhook_deliveries WHERE (source, key) IN (
        SELECT source, key FROM webhook_deliveries WHERE forget_at < now() LIMIT {PURGED_AT_ONCE}
        FOR UPDATE SKIP LOCKED)""")  # noqa: S608 (our own number)


class KeyRefused(Exception):
    """The request has no key, or none that can be one."""


class KeyReused(Exception):
    """The key is known with another body."""


class DeliveryUnderWay(Exception):
    """Another request with this key is being published, or its process died a moment ago: try again."""


class Claim(NamedTuple):
    """The right to publish what came with a key, until it runs out."""

    source: str
    key: str
    claim: str


class Deliveries:
    """The deliveries of all webhook sources. Connects when one is asked for; for one event loop.

    Raises Unavailable when Postgres does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: AsyncEngine | None = None

    async def claim(self, source: str, key: str, body: bytes, seconds: float) -> Claim | int:
        """The right to publish, for so long; or how many records were accepted when it was published before.

        Raises KeyReused, DeliveryUnderWay.
        """
        claim = Claim(source, key, str(uuid.uuid4()))
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if await self._ask(_CLAIM, {**claim._asdict(), "digest": digest, "seconds": seconds}):
            return claim
        known = await self._ask(_KNOWN, claim._asdict())
        if known is not None and known.digest != digest:
            raise KeyReused(f"the key {key!r} came before with another body")
        if known is None or known.accepted is None:
            raise DeliveryUnderWay(f"a request with the key {key!r} is being published; try again")
        return int(known.accepted)

    async def remember(self, claim: Claim, accepted: int, seconds: float) -> None:
        """All is published: for so long the key is known. Raises DeliveryUnderWay if the claim has run out."""
        if not await self._ask(_REMEMBER, {**claim._asdict(), "accepted": accepted, "seconds": seconds}):
            raise DeliveryUnderWay(f"publishing what came with the key {claim.key!r} took too long; try again")
        await self._ask(_PURGE, {})

    async def release(self, claim: Claim) -> None:
        """Not all is published: the sender may try again at once."""
        await self._ask(_RELEASE, claim._asdict())

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def _ask(self, statement: Any, parameters: dict[str, Any]) -> Any:
        if self._engine is None:
            self._engine = postgres_engine(
                self._settings,
                isolation_level="AUTOCOMMIT",
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_pre_ping=True,
                pool_timeout=SECONDS,
                connect_args={
                    "timeout": SECONDS,
                    "command_timeout": SECONDS,
                    "server_settings": {"application_name": "headrace-webhooks"},
                },
            )
        try:
            async with self._engine.connect() as connection:
                result = await connection.execute(statement, parameters)
                return result.first() if result.returns_rows else None
        except (DBAPIError, OSError, TimeoutError) as error:
            trouble = postgres_trouble(error)
            if trouble is None:
                raise
            raise Unavailable("postgres", trouble) from error


def checked_key(header: str, value: str | None) -> str:
    """The key in a header. Raises KeyRefused."""
    key = (value or "").strip()
    if not key or len(key) > LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise KeyRefused(f"the header {header} must have a key of 1 to {LONGEST_KEY} printable ASCII characters")
    return key
