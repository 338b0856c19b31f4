"""A cluster of a version whose one role was a superuser with a published password: it is closed, and keeps its data."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from local_stack.postgres import Postgres, find_postgres
from local_stack.servers import RunningServers
from local_stack.unprivileged import make_data_folder, own, unprivileged
from tests.processes import free_port
from tests.servers.databases import run_async

OLD = "headrace"
"""Name of the superuser, the database, and the password."""

MADE_BY_THE_SUPERUSER = """
CREATE SCHEMA more
CREATE SEQUENCE row_version START 7
CREATE TYPE more.mood AS ENUM ('glad')
CREATE TABLE customers (id serial PRIMARY KEY, name text, mood more.mood)
CREATE VIEW names AS SELECT name FROM customers
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'
INSERT INTO customers (name, mood) VALUES ('Ada', 'glad')
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="headrace-old-") as name:
        home = Path(name)
        home.chmod(0o711)  # root's servers run as another user, who has to pass through
        make_data_folder(home / "data")
        server = Postgres(find_postgres(), home / "data" / "postgres", free_port(), "random")
        cluster(server)
        running = RunningServers([server], home)
        try:
            running.start()
            yield server
        finally:
            running.close()


def cluster(server: Postgres) -> None:
    """Make it as that version did."""
    own(server.data)
    run(server, "initdb", "-U", OLD, "--auth-host=scram-sha-256", "--no-sync")
    run(server, "postgres", "--single", "postgres", text=f"ALTER ROLE {OLD} PASSWORD '{OLD}'\nCREATE DATABASE {OLD}\n")
    run(server, "postgres", "--single", OLD, text=MADE_BY_THE_SUPERUSER.lstrip())


def run(server: Postgres, program: str, *words: str, text: str = "") -> None:
    single = words[:1] == ("--single",)
    arguments = [*words[:1], "-D", str(server.data), *words[1:]] if single else ["-D", str(server.data), *words]
    command = unprivileged([str(server.programs / program), *arguments], server.environment())
    done = subprocess.run(
        command, input=text, cwd="/", env=os.environ | server.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr


async def values(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


def test_the_published_password_is_no_longer_accepted(postgres: Postgres) -> None:
    for role, password in ((OLD, OLD), ("headrace_superuser", OLD), ("headrace_superuser", "random")):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            run_async(values(f"postgresql://{role}:{password}@127.0.0.1:{postgres.port}/{OLD}", "SELECT 1"))


def test_everything_stored_belongs_to_a_role_that_is_not_a_superuser(postgres: Postgres) -> None:
    url = postgres.addresses()["DATABASE_URL"]
    assert run_async(values(url, "SELECT name FROM names")) == ["Ada"]
    assert run_async(values(url, "SELECT nextval('row_version')")) == [7]
    assert run_async(values(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")) == [False]
    for change in (
        "ALTER TABLE customers ADD COLUMN phone text",
        "CREATE OR REPLACE VIEW names AS SELECT name FROM customers WHERE id > 0",
        "ALTER SEQUENCE row_version CACHE 2",
        "ALTER FUNCTION twice(int) RENAME TO double",
        "ALTER TYPE more.mood ADD VALUE 'sad'",
        "CREATE TABLE more.orders (id int)",
    ):
        run_async(values(url, change))
