"""The pool of Postgres connections that reads use."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from asyncpg import (
    AdminShutdownError,
    CrashShutdownError,
    InterfaceError,
    InternalClientError,
    PostgresConnectionError,
)
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection

from api.current_request import measured
from runtime.settings import Settings
from stores.outages import TableMisfit, Unavailable, postgres_trouble, table_trouble
from stores.postgres_connection import SOON_SECONDS
from stores.postgres_engine import postgres_engine

POOL_WAIT_SECONDS = 3
"""For a connection that is fit for use, whether from the pool or new."""

LOOK_AGAIN_SECONDS = 0.01

STATEMENT_SECONDS = 10
"""Longer than any read of one page takes; shorter than the floor that guards the cache (cache_floor_ttl_seconds)."""


def read_engine(settings: Settings) -> AsyncEngine:
    """An engine for reads; connects on first use.

    Statements commit by themselves: a read is one statement, and BEGIN and ROLLBACK would triple its round trips.
    The pool keeps every connection up to its maximum, the last used first: SQLAlchemy closes those of its "overflow"
    after each use, and opening one costs more than ten reads.
    """
    engine = postgres_engine(
        settings,
        isolation_level="AUTOCOMMIT",
        pool_size=settings.database_pool_max,
        max_overflow=0,
        pool_use_lifo=True,
        pool_pre_ping=True,
        pool_timeout=POOL_WAIT_SECONDS,
        connect_args={
            "timeout": SOON_SECONDS,
            # The client's limit is for a server that no longer answers, so it is the longer one.
            "command_timeout": STATEMENT_SECONDS + 2,
            "server_settings": {
                "application_name": "headrace-api",
                "timezone": "UTC",
                "statement_timeout": str(STATEMENT_SECONDS * 1000),
            },
        },
    )
    engine.dialect.do_ping = partial(_ping, engine.dialect.do_ping)  # type: ignore[method-assign]
    event.listen(engine.sync_engine, "do_connect", _refuse_at_once)
    return engine


async def close_pool(engine: AsyncEngine) -> None:
    """Close all connections once they are given back, at most POOL_WAIT_SECONDS later. Idempotent.

    A load that callers share goes on when they have given up; the pool would not know any more of what it gives back.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(POOL_WAIT_SECONDS):
            while engine.pool.checkedout():  # type: ignore[attr-defined]  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
    await engine.dispose()


_LOST = (PostgresConnectionError, AdminShutdownError, CrashShutdownError, InterfaceError, InternalClientError, OSError)
"""Errors of a connection that has been closed, or is being closed by the server."""

_at_once: ContextVar[bool] = ContextVar("at_once", default=False)
"""True while a connection is taken from the pool that is there already, without asking it whether it lives."""


class _NoneAtOnce(Exception):
    """The pool would have to open a connection."""


def _ping(ask: Callable[[Any], bool], connection: Any) -> bool:
    """The question that the pool asks a connection before it gives it away."""
    return not connection.driver_connection.is_closed() if _at_once.get() else ask(connection)


def _refuse_at_once(*_: Any) -> None:
    """Called by the pool before it opens a connection."""
    if _at_once.get():
        raise _NoneAtOnce


async def fetch(engine: AsyncEngine, query: str, *values: object) -> Sequence[Any]:
    """The rows of a read in the driver's own words: `$1` for the first value; nothing is made of them here.

    For reads of which each ten µs count: the pool's question and SQLAlchemy's work on a statement take longer than
    most of them. A connection that breaks meanwhile is replaced once. Raises what `explained` raises.
    """
    with explained(), measured("postgres"):
        if idle := _idle_connection(engine):
            try:
                return await _fetch(idle.driver_connection, query, values)
            except TimeoutError:
                raise
            except _LOST:
                idle.invalidate()
            finally:
                idle.close()
        async with _connection(engine) as connection:
            return await _fetch((await connection.get_raw_connection()).driver_connection, query, values)


def _idle_connection(engine: AsyncEngine) -> PoolProxiedConnection | None:
    """A connection that the pool has, unless none is idle and open. To be closed, which gives it back.

    It is not asked whether it lives, and there is no greenlet: nothing is waited for here.
    """
    if not engine.sync_engine.pool.checkedin():  # type: ignore[attr-defined]
        return None
    token = _at_once.set(True)
    try:
        return engine.sync_engine.raw_connection()
    except _NoneAtOnce:  # Postgres has closed the last used one
        return None
    finally:
        _at_once.reset(token)


async def _fetch(driver: Any, query: str, values: Sequence[object]) -> Sequence[Any]:
    rows: Sequence[Any] = await driver.fetch(query, *values)
    return rows


@contextmanager
def explained() -> Iterator[None]:
    """Raises Unavailable if Postgres does not answer the body, TableMisfit where a table lacks what it asks for."""
    try:
        yield
    except Exception as error:
        if reason := postgres_trouble(error):
            raise Unavailable("postgres", reason) from error
        if reason := table_trouble(error):
            raise TableMisfit(reason) from error
        raise


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection from the pool. Raises what `explained` raises, there or in the body."""
    with explained(), measured("postgres"):
        async with _connection(engine) as connection:
            yield connection


@asynccontextmanager
async def _connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    connection = engine.connect()
    # Bounds the pool's ping too: a server that is frozen would hold it for the whole command timeout.
    async with asyncio.timeout(POOL_WAIT_SECONDS):
        await connection.start()
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """The same with a transaction around the body, for the few answers that change something."""
    async with reading(engine.execution_options(isolation_level="READ COMMITTED")) as connection, connection.begin():
        yield connection
