"""One run of a source at a time, on all hosts: an advisory lock of Postgres, on a connection of its own.

The lock goes with its process, however that ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog

from runtime.errors import Explained
from runtime.settings import Settings
from stores.advisory_locks import KEEPALIVES, RUN_HOLDER, run_lock, try_lock, unlock
from stores.outages import POSTGRES_ERRORS, postgres_trouble

log = structlog.get_logger()

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
CLOSE_SECONDS = 2.0
RETAKE_EVERY_SECONDS = 0.5

SESSION = {"application_name": "headrace-etl-run", **KEEPALIVES}


class LockTaken(Explained):
    """The connection that held the lock was lost, and another run took the lock before it was back."""


class SourceLock:
    """The lock of one source. Belongs to one event loop."""

    def __init__(self, settings: Settings, source: str) -> None:
        self._url = settings.plain_database_url
        self._source = source
        self._connection: Any = None
        self._pid: int | None = None
        self._lost = asyncio.Event()

    async def take(self) -> bool:
        """Take it if it is free; does not wait for it. `release` must follow, even if it raises.

        Raises what asyncpg raises when Postgres does not answer.
        """
        taken, _ = await self._try()
        return taken

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Hold the lock during the body, and take it again whenever its connection is lost, as when Postgres restarts.

        Raises LockTaken, and cancels the body, when another run was faster.
        """
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep())
                yield
                keeping.cancel()
        except BaseExceptionGroup as errors:
            # Either what the body has raised or LockTaken: both stand for themselves.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            log.warning("etl_lock_lost", source=self._source)
            while not await self._retake():  # noqa: ASYNC110 (nobody tells when Postgres is back)
                await asyncio.sleep(RETAKE_EVERY_SECONDS)
            log.info("etl_lock_retaken", source=self._source)

    async def release(self) -> None:
        """Give it back, if it is held; when this returns, the next may have it. Raises nothing."""
        if self._connection is not None and not self._connection.is_closed():
            # Not left to the closing, which the server notices some time later.
            with contextlib.suppress(*POSTGRES_ERRORS):
                await unlock(self._connection, run_lock(self._source))
        await self._close()

    async def _retake(self) -> bool:
        before = self._pid
        try:
            taken, holder = await self._try()
        except Exception as error:
            await self._close()
            if postgres_trouble(error):
                return False
            raise
        if not taken and holder not in (None, before):
            raise LockTaken(
                f"another run of {self._source} began while Postgres did not answer; what this one has published "
                "will be stored all the same"
            )
        return taken

    async def _try(self) -> tuple[bool, int | None]:
        if self._connection is None or self._connection.is_closed():
            connect: Any = asyncpg.connect
            self._connection = await connect(
                self._url, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS, server_settings=SESSION
            )
            self._connection.add_termination_listener(self._note_loss)
        if await try_lock(self._connection, run_lock(self._source)):
            self._pid = self._connection.get_server_pid()
            self._lost.clear()
            return True, self._pid
        return False, await self._connection.fetchval(RUN_HOLDER.format(source="$1::text"), self._source)

    def _note_loss(self, connection: Any) -> None:
        if connection is self._connection:
            self._lost.set()

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await asyncio.wait_for(connection.close(), CLOSE_SECONDS)
        except POSTGRES_ERRORS:
            connection.terminate()
