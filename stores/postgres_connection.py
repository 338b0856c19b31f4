"""asyncpg's connections on Postgres, for those that do without SQLAlchemy, which takes a third of a second to load."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from runtime.settings import Settings

CONNECT_SECONDS = 10.0
"""To connect to Postgres for work that nobody waits for. A run, the monitor and `headrace status` have less time."""

SOON_SECONDS = 3.0
"""To connect where somebody waits for the answer."""

Connection = Any
"""An asyncpg.Connection; the library ships no types."""


@asynccontextmanager
async def postgres_connection(settings: Settings, seconds: float = CONNECT_SECONDS) -> AsyncIterator[Connection]:
    """A connection for one piece of work. To connect and to close each take at most so long. Raises as asyncpg does."""
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url, timeout=seconds)
    try:
        yield connection
    finally:
        await connection.close(timeout=seconds)
