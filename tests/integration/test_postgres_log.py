"""The local stack's Postgres logs an error without the values of the record that made it."""

import tempfile
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from local_stack.postgres import Postgres, find_postgres
from local_stack.servers import RunningServers
from local_stack.unprivileged import make_data_folder
from tests.processes import free_port
from tests.servers.databases import run_async


def test_an_address_that_is_taken_already_is_not_in_the_log() -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-log-") as name:
        home = Path(name)
        home.chmod(0o711)  # root's servers run as another user, who has to pass through
        make_data_folder(home / "data")
        running = RunningServers([Postgres(find_postgres(), home / "data" / "postgres", free_port(), "random")], home)
        try:
            running.start()
            run_async(refused(running.addresses["DATABASE_URL"]))
            log = running.log("postgres").read_text()
        finally:
            running.close()
    assert "duplicate key value violates unique constraint" in log
    assert "ada@example.org" not in log


async def refused(url: str) -> None:
    connect: Any = asyncpg.connect
    connection = await connect(url)
    try:
        await connection.execute("CREATE TABLE people (email text UNIQUE)")
        insert = "INSERT INTO people VALUES ('ada@example.org')"
        await connection.execute(insert)
        with pytest.raises(asyncpg.UniqueViolationError, match="unique"):
            await connection.execute(insert)
    finally:
        await connection.close()
