"""The sink's one connection: opened when needed, thrown away after trouble; and what may go wrong on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from runtime.errors import Backpressure
from runtime.settings import Settings
from schemas.dataset import Dataset
from stores.outages import POSTGRES_ERRORS, STORE, in_words, is_denied, is_outage, meaning
from stores.postgres_connection import CONNECT_SECONDS, Connection

STATEMENT_SECONDS = 60.0
"""A merge takes a fraction of a second; a server that is silent for a minute is treated as gone."""

CLOSE_SECONDS = 2.0

SESSION = {
    "application_name": "headrace-sink",
    "timezone": "UTC",
    "jit": "off",
    # The staging tables have no statistics. Batches are small against the tables, so probing an index is always
    # right, and reading a whole table to hash it never is.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # Ends a session whose client vanished in the middle, so that it does not hold the locks of the coverage.
    "idle_in_transaction_session_timeout": "60s",
}


class SinkConnection:
    """Hands out one open connection. Not for concurrent use. `session`: settings beside SESSION."""

    def __init__(self, settings: Settings, **session: str) -> None:
        self._url = settings.plain_database_url
        self._session = SESSION | session
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """True if there is a connection, as far as is known."""
        connection = self._connection  # another thread asks, too
        return connection is not None and not connection.is_closed()

    async def open(self) -> tuple[Connection, bool]:
        """The connection, and whether it is new. Raises what asyncpg raises."""
        if self.is_open:
            return self._connection, False
        connect: Any = asyncpg.connect
        self._connection = await connect(
            self._url, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS, server_settings=self._session
        )
        return self._connection, True

    @asynccontextmanager
    async def use(self) -> AsyncIterator[tuple[Connection, bool]]:
        """The connection, and whether it is new. An error in here discards it; an outage is raised as Backpressure."""
        try:
            yield await self.open()
        except Exception as error:
            self.discard()
            if is_outage(error):
                raise Backpressure(STORE, in_words(error)) from error
            raise

    def discard(self) -> None:
        """Drop the connection: what it was doing rolls back."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close it politely, or drop it."""
        if self._connection is not None:
            try:
                await asyncio.wait_for(self._connection.close(), CLOSE_SECONDS)
            except POSTGRES_ERRORS:
                self.discard()


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """Inside a transaction: what is done in here is kept, or undone if it raises.

    asyncpg's nested transaction rolls back *to* its savepoint and leaves it open. A thousand that failed were a
    thousand levels deep, each with a place in Postgres's lock table, until that was full ("out of shared memory").
    """
    await connection.execute("SAVEPOINT attempt")
    try:
        yield
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt")
        raise
    await connection.execute("RELEASE SAVEPOINT attempt")


class DatasetMisfit(Exception):
    """A table is not as its dataset is declared, or not ours to write: nothing of that dataset can be, all else can."""

    def __init__(self, dataset: Dataset, reason: str) -> None:
        super().__init__(f"{dataset.name}: {reason}")
        self.dataset = dataset
        self.reason = reason


@contextmanager
def blaming(dataset: Dataset) -> Iterator[None]:
    """Raises DatasetMisfit where Postgres takes no statement about the dataset, though it takes others."""
    try:
        yield
    except Exception as error:
        if is_denied(error):
            raise DatasetMisfit(dataset, in_words(error)) from error
        if meaning(error) is None or is_outage(error):
            raise
        reason = f"{in_words(error)}; `headrace setup` says what to do"
        raise DatasetMisfit(dataset, reason) from error
