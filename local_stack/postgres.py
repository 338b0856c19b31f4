"""One Postgres, on loopback TCP only, with a password, sized for a laptop."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from local_stack.errors import StackError
from local_stack.postgres_programs import PostgresPrograms, cluster_major
from local_stack.server import LOG_TAIL_LINES, listens
from local_stack.unprivileged import give_away, unprivileged_prefix

USER = DATABASE = "headrace"
PASSWORD = "headrace"  # noqa: S105 (of a server on loopback, and printed by `headrace env`)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A socket path is limited to some 100 bytes, and nobody here needs one.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # Short statements only; compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Postgres:
    """A Postgres server with one role and one database; implements Server."""

    programs: PostgresPrograms
    data: Path
    port: int

    name = "postgres"
    # "Fast shutdown": ends the sessions. TERM would wait until every client has left.
    stop_signal = "INT"

    def prepare(self) -> None:
        """Make the cluster and the database, once. Implements Server.prepare."""
        if cluster_major(self.data):
            self._drop_stale_pid_file()
            return
        # Built aside and renamed, so that an interrupted initdb leaves nothing that looks like a cluster.
        building = self.data.with_name(self.data.name + ".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True, mode=0o700)
        password_file = building.with_suffix(".password")
        password_file.touch(mode=0o600)
        password_file.write_text(PASSWORD)
        try:
            give_away(building)
            give_away(password_file)
            self._initdb(building, password_file)
            self._create_database(building)
        finally:
            password_file.unlink(missing_ok=True)
        building.rename(self.data)

    def command(self) -> list[str]:
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        program = self.programs.path("postgres")
        return [*unprivileged_prefix(), program, "-D", str(self.data), "-p", str(self.port), *options]

    def environment(self) -> dict[str, str]:
        # The cluster's locale is C; a locale that is set but not installed would keep it from starting.
        return {"LC_ALL": "C", "LANG": "C"}

    def addresses(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url}

    @property
    def url(self) -> str:
        return database_url(self.port)

    def problem(self) -> str | None:
        return problem(self.port)

    def _initdb(self, folder: Path, password_file: Path) -> None:
        options = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", ["-D", str(folder), *options, "--no-sync"], "")

    def _create_database(self, folder: Path) -> None:
        # Single-user mode needs no port, no password and no client.
        sql = f"CREATE DATABASE {DATABASE};\n"
        self._run("postgres", ["--single", "-D", str(folder), "-c", "log_checkpoints=off", "postgres"], sql)

    def _run(self, program: str, arguments: list[str], text: str) -> None:
        command = [*unprivileged_prefix(), self.programs.path(program), *arguments]
        environment = os.environ | self.environment()
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, cwd="/", env=environment, check=False
        )
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise StackError(
                f"Postgres could not make its data folder {self.data} ({program} exited with {done.returncode}).",
                log_lines=(done.stdout + done.stderr).splitlines()[-LOG_TAIL_LINES:],
                remedy="Check that the folder is writable and the disk has space, then run this again.",
            )

    def _drop_stale_pid_file(self) -> None:
        # After a machine was cut off, the number may belong to another process, and Postgres would refuse to start.
        file = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(file.read_text().splitlines()[0])
            if not _is_postgres(pid):
                file.unlink()


def database_url(port: int) -> str:
    """The URL of the database that `Postgres.prepare` makes."""
    return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"


def problem(port: int) -> str | None:
    """Run a query as our role in our database on this port; see Server.problem."""
    if not listens(port):
        return f"nothing listens on port {port}"
    # In a thread of its own, because the caller may already run an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_query(database_url(port)))).result()


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


async def _query(url: str) -> str | None:
    try:
        async with asyncio.timeout(2.5):
            connection = await asyncpg.connect(url)
            try:
                await connection.execute("SELECT 1")
            finally:
                await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return f"does not answer a query: {str(error) or type(error).__name__}"
    return None
