"""The sink's one connection: opened when needed, thrown away after trouble."""

import asyncio
from typing import Any

import asyncpg

from runtime.settings import Settings
from stores.outages import POSTGRES_ERRORS

CONNECT_SECONDS = 10.0
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
    # Ends a session whose client vanished in the middle, so that it does not hold the ledger's locks.
    "idle_in_transaction_session_timeout": "60s",
}


Connection = Any
"""An asyncpg.Connection; the library ships no types."""


class SinkConnection:
    """Hands out one open connection. Not for concurrent use."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.plain_database_url
        self._connection: Connection | None = None

    async def open(self) -> tuple[Connection, bool]:
        """The connection, and whether it is new. Raises what asyncpg raises."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection, False
        connect: Any = asyncpg.connect
        self._connection = await connect(
            self._url, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS, server_settings=SESSION
        )
        return self._connection, True

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
