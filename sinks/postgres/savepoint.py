"""A savepoint that leaves nothing behind when what follows it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sinks.postgres.connection import Connection


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
