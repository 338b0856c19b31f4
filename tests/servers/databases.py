"""A fresh database per test: copied from a template that was migrated once."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code, whatever loop this thread may have."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


OWNER = "headrace"
"""The pipeline's role."""


def database_url(server_url: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


def create_database(superuser_url: str, name: str, template: str | None = None) -> None:
    """Create a database of the pipeline's role, empty or as a copy of `template`."""
    # By files, not through the log, which is half the work.
    copied = f' TEMPLATE "{template}" STRATEGY FILE_COPY' if template else ""
    run_async(_execute(superuser_url, f'CREATE DATABASE "{name}" OWNER {OWNER}{copied}'))


def drop_database(superuser_url: str, name: str) -> None:
    """Drop a database, throwing its clients out; none of that name is fine."""
    run_async(_execute(superuser_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def spare_the_disk(superuser_url: str) -> None:
    """Let the server leave it to the system when to write to the disk, also after it is started again.

    That a process of it is killed loses nothing then either; a machine that crashes would, and no test crashes one.
    """
    run_async(_execute(superuser_url, "ALTER SYSTEM SET fsync = off"))
    run_async(_execute(superuser_url, "SELECT pg_reload_conf()"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
