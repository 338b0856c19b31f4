"""The advisory locks that we take in Postgres: all their names, and the statements that take them.

A lock's number is made of its name. One of a session ends with its connection, so no pooler in transaction mode may be
between; a host that vanished holds its locks until the server's keepalives find out.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

MIGRATION = "headrace migration"
RELAY = "headrace relay"
"""Whose session holds it publishes what the outbox holds; others stand by."""
REPLAY_JOBS = "headrace replay jobs"

KEEPALIVES = {"tcp_keepalives_idle": "20", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""Settings of a session that holds a lock: a host that vanished is found out in half a minute, not in two hours."""

RUN_HOLDER = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = hashtextextended('headrace etl run ' || {source}, 0)"""
"""The query that finds the session with a source's `run_lock`; it takes nothing. `{source}` is an expression in SQL."""


def run_lock(source: str) -> str:
    """A source has one run at a time."""
    return f"headrace etl run {source}"


def checkpoint_lock(source: str) -> str:
    """A source's checkpoint is written by one run at a time."""
    return f"headrace checkpoint {source}"


async def try_lock(connection: Any, name: str) -> bool:
    """Take a lock for the session of this asyncpg connection, unless another session has it."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name))


async def unlock(connection: Any, name: str) -> None:
    """Give it back before the session ends, which the server notices some time later."""
    await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)


async def lock_until_commit(connection: AsyncConnection, name: str) -> None:
    """Wait for a lock and hold it until the transaction ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
