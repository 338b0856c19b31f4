"""The checkpoint of a source: where its next run goes on. In Postgres, written by one run at a time.

A position is saved after the broker has confirmed every record up to it, so a lost save repeats records and skips none.
See decision 0018.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import asyncpg
import msgspec
import structlog

from runtime.errors import Explained
from runtime.settings import Settings
from stores.advisory_locks import KEEPALIVES, checkpoint_lock, try_lock
from stores.outages import POSTGRES_ERRORS, Meaning, meaning
from stores.postgres_connection import CONNECT_SECONDS

log = structlog.get_logger()

STATEMENT_SECONDS = 30.0

_SESSION = {"application_name": "headrace-checkpoint", **KEEPALIVES}

_DROP = "DELETE FROM etl_checkpoint WHERE source = $1 AND ($2 OR scope <> $3) RETURNING run_id"
_TAKE = """
INSERT INTO etl_checkpoint (source, scope, position, run_id, updated_at) VALUES ($1, $2, '{}', $3, now())
ON CONFLICT (source) DO UPDATE SET run_id = $3 RETURNING position::text"""
_PAGES = "SELECT page, etag, last_modified, records FROM etl_checkpoint_pages WHERE source = $1 ORDER BY seq"
_MOVE = """
UPDATE etl_checkpoint SET position = coalesce($3::jsonb, position), updated_at = now()
WHERE source = $1 AND run_id = $2 RETURNING source"""
_FORGET_PAGES = "DELETE FROM etl_checkpoint_pages WHERE source = $1 AND page = ANY($2::int[])"
_ADD_PAGE = """
INSERT INTO etl_checkpoint_pages (source, page, etag, last_modified, records) VALUES ($1, $2, $3, $4, $5)"""
_CUT = "DELETE FROM etl_checkpoint_pages WHERE source = $1 AND (page IS NULL OR page >= $2)"


Checkpoint = Literal["resume", "restart"]
"""A run goes on from its source's checkpoint, or begins another one."""


class CheckpointFailed(Explained):
    """A run cannot use its source's checkpoint; the message says why and what to do."""


class CheckpointUnavailable(CheckpointFailed):
    """Postgres does not give or take it."""


class CheckpointTaken(CheckpointFailed):
    """Another run of the source is under way."""


class Page(NamedTuple):
    """The content of a page when it was confirmed: `records` has 16 bytes each, hashes of key and content.

    Without a number: the keys in it no longer have the content that earlier pages name (its hash is 0).
    """

    number: int | None
    etag: str | None
    last_modified: str | None
    records: bytes


@dataclass(frozen=True)
class Position:
    """A place in a source, or a step from one to the next. JSON in `at`, in the words of the source's kind.

    To be saved, `at` = None leaves it as it is, `pages` replace those of the same number, in this order, and `end` ends
    a whole reading: pages from that number on are gone, and so are those without a number.
    """

    at: Mapping[str, Any] | None
    pages: tuple[Page, ...] = ()
    end: int | None = None


class CheckpointStore:
    """One run's access to its source's checkpoint. Connects when it begins, again after trouble; close it.

    `scope` is everything that a position depends on besides the source's data; another scope voids it. The run holds an
    advisory lock of its source, and one that has lost it saves nothing more. Not for concurrent use.
    """

    def __init__(self, settings: Settings, source: str, scope: str, run_id: str) -> None:
        self._url = settings.plain_database_url
        self._source = source
        self._scope = scope
        self._run_id = run_id
        self._connection: Any = None

    async def begin(self, *, restart: bool) -> Position | None:
        """Take the checkpoint for this run and read it; None if there is none, or with `restart`.

        Raises CheckpointTaken, CheckpointUnavailable.
        """
        try:
            connection = await self._connected()
            async with connection.transaction():
                dropped = await connection.fetch(_DROP, self._source, restart, self._scope)
                at = await connection.fetchval(_TAKE, self._source, self._scope, self._run_id)
                rows = await connection.fetch(_PAGES, self._source)
        except POSTGRES_ERRORS as error:
            self.abandon()
            raise self._unavailable("read", error) from error
        except BaseException:  # cancelled, too: nobody else knows of the connection yet
            self.abandon()
            raise
        if dropped and not restart:
            log.info("checkpoint_void", source=self._source, reason="its block or its topic is another one")
        position = Position(msgspec.json.decode(at), tuple(Page(*row) for row in rows))
        return position if position.at or position.pages else None

    async def save(self, position: Position) -> None:
        """Durable when it returns, all or nothing; repeating it changes nothing.

        Raises CheckpointTaken, CheckpointUnavailable.
        """
        at = None if position.at is None else msgspec.json.encode(position.at).decode()
        numbers = [page.number for page in position.pages if page.number is not None]
        try:
            connection = await self._connected()
            if not position.pages and position.end is None:
                await self._move(connection, at)  # one round trip: what is saved late is repeated
                return
            async with connection.transaction():
                await self._move(connection, at)
                await connection.execute(_FORGET_PAGES, self._source, numbers)
                if position.pages:
                    await connection.executemany(_ADD_PAGE, [(self._source, *page) for page in position.pages])
                if position.end is not None:
                    await connection.execute(_CUT, self._source, position.end)
        except POSTGRES_ERRORS as error:
            self.abandon()
            raise self._unavailable("saved", error) from error

    async def close(self) -> None:
        """Let the next run have it."""
        if self._connection is not None:
            try:
                await self._connection.close(timeout=2.0)
            except POSTGRES_ERRORS:
                self.abandon()

    def abandon(self) -> None:
        """Drop the connection: what it is doing fails."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _move(self, connection: Any, at: str | None) -> None:
        if await connection.fetchval(_MOVE, self._source, self._run_id, at) is None:
            raise self._taken()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            connect: Any = asyncpg.connect
            self._connection = await connect(
                self._url, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS, server_settings=_SESSION
            )
            if not await try_lock(self._connection, checkpoint_lock(self._source)):
                self.abandon()
                raise self._taken()
        return self._connection

    def _taken(self) -> CheckpointTaken:
        return CheckpointTaken(f"another run of {self._source} is under way; let it end, or stop it, and try again")

    def _unavailable(self, what: Literal["read", "saved"], error: BaseException) -> CheckpointUnavailable:
        advice = "`headrace status` says what is down; " + (
            "--full reads all and needs no checkpoint" if what == "read" else "the next run goes on from what is saved"
        )
        if meaning(error) is Meaning.NO_TABLE:
            advice = "`headrace setup` creates its tables"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return CheckpointUnavailable(
            f"the checkpoint of {self._source} cannot be {what}: Postgres says {reason!r}; {advice}"
        )
