"""The local stack's Postgres keeps its log bounded, and compressed where it can. Where it cannot, it starts too."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from local_stack.postgres import Postgres, compresses_wal, find_postgres, wheel_folders
from local_stack.servers import RunningServers
from local_stack.unprivileged import make_data_folder, reachable
from tests.processes import free_port
from tests.servers.databases import run_async

PROGRAMS = {str(folder): folder for folder in (find_postgres(), *map(reachable, wheel_folders()))}


@pytest.mark.parametrize("folder", PROGRAMS)
def test_the_log_is_bounded_and_compressed_where_this_postgres_can(folder: str) -> None:
    programs = PROGRAMS[folder]
    with tempfile.TemporaryDirectory(prefix="headrace-wal-") as name:
        home = Path(name)
        home.chmod(0o711)  # root's servers run as another user, who has to pass through
        make_data_folder(home / "data")
        server = Postgres(programs, home / "data" / "postgres", free_port(), "random")
        running = RunningServers([server], home)
        try:
            running.start()
            found = run_async(shown(server.addresses()["DATABASE_URL"], ["max_wal_size", "wal_compression"]))
        finally:
            running.close()
    assert found == ["1GB", "lz4" if compresses_wal(programs) else "off"]


async def shown(url: str, settings: Sequence[str]) -> list[str]:
    connect: Any = asyncpg.connect
    connection = await connect(url)
    try:
        return [await connection.fetchval(f"SHOW {name}") for name in settings]
    finally:
        await connection.close()
