"""Brings the database to the current schema; safe when every process does it at its start."""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from runtime.settings import Settings
from runtime.tables import all_tables

LOCK_KEY = 0x68656164726163
"""Any number of ours (the bytes of "headrac"): whoever holds this advisory lock is migrating."""

STARTING_SECONDS = 30
"""How long a Postgres that is not there yet may take to start."""


def migrate(settings: Settings) -> None:
    """Apply all migrations, then create the tables of datasets that have none yet. Blocking, idempotent.

    A declared but missing table is created from its declaration, so a new dataset is one file; a *changed* declaration
    needs a migration. Waits up to 30 s for a Postgres that is starting, and as long as it takes for others that are
    migrating. All or nothing, in one transaction. Raises OSError or sqlalchemy's DBAPIError. Not to be called in an
    event loop's thread.
    """
    asyncio.run(_migrate(settings))


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for a connection; finds the migrations beside this module, installed or not."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def is_starting(error: BaseException) -> bool:
    """Whether Postgres is not there, or not there yet."""
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig else None
        return isinstance(cause, asyncpg.CannotConnectNowError | asyncpg.PostgresConnectionError | OSError)
    return isinstance(error, OSError | asyncpg.CannotConnectNowError | asyncpg.PostgresConnectionError)


@retry(
    retry=retry_if_exception(is_starting),
    stop=stop_after_delay(STARTING_SECONDS),
    wait=wait_random_exponential(multiplier=0.2, max=2),
    reraise=True,
)
async def _migrate(settings: Settings) -> None:
    engine = create_async_engine(settings.async_database_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    command.upgrade(alembic_config(connection), "head")
    existing = set(inspect(connection).get_table_names())
    tables = all_tables()
    tables.create_all(connection, tables=[table for table in tables.sorted_tables if table.name not in existing])
