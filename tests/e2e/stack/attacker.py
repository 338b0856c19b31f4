"""Attacks on a stack by somebody on the same machine: without a password, and with that of our own processes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import redis

from runtime.settings import Settings
from tests.servers.databases import run_async

FILE = "/etc/hostname"

NOT_LET_IN = (redis.AuthenticationError, redis.ResponseError)
"""Some versions refuse MODULE and DEBUG before they ask who it is."""

LOGINS = (
    ("headrace", "headrace"),
    ("headrace", ""),
    ("headrace_superuser", "headrace"),
    ("headrace_superuser", ""),
    ("postgres", "postgres"),
)

FOR_POSTGRES = (
    f"SELECT pg_read_file('{FILE}')",
    "SELECT pg_ls_dir('.')",
    f"SELECT lo_import('{FILE}')",
    "CREATE TABLE taken (line text); COPY taken FROM PROGRAM 'id'",
    f"CREATE TABLE taken (line text); COPY taken FROM '{FILE}'",
    "COPY (SELECT 1) TO '/tmp/headrace-attack'",
    "ALTER ROLE headrace SUPERUSER",
    "CREATE ROLE another LOGIN",
    "SET ROLE headrace_superuser",
    "GRANT pg_execute_server_program TO headrace",
    "ALTER SYSTEM SET shared_preload_libraries = '/tmp/attack'",
    "CREATE FUNCTION attack() RETURNS int LANGUAGE c AS '/tmp/attack', 'attack'",
    "CREATE DATABASE another",
)

FOR_REDIS = (
    "CONFIG SET dir /etc",
    "CONFIG GET dir",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "MODULE LOAD /tmp/attack.so",
    "REPLICAOF 127.0.0.1 1",
    "SLAVEOF 127.0.0.1 1",
    "DEBUG SLEEP 0",
    "SHUTDOWN NOSAVE",
    "ACL SETUSER default on nopass",
    "MONITOR",
    "FLUSHALL",
    "KEYS *",
    "MIGRATE 127.0.0.1 1 key 0 1",
    "CLIENT KILL TYPE normal",
    "SCRIPT FLUSH",
)


def log_in(settings: Settings, user: str, password: str) -> None:
    """Log in to the stack's Postgres."""
    parts = urlsplit(settings.plain_database_url)
    netloc = f"{user}:{password}@{parts.hostname}:{parts.port}" if password else f"{user}@{parts.hostname}:{parts.port}"
    run_async(_execute(urlunsplit(parts._replace(netloc=netloc)), "SELECT 1"))


def ask_postgres(settings: Settings, statements: str) -> None:
    """Have the stack's Postgres do this as our own role; what fails leaves nothing behind."""
    run_async(_execute(settings.plain_database_url, statements))


def ask_redis(settings: Settings, words: str, *, as_ourselves: bool = True) -> None:
    """Have the stack's Redis do this."""
    ours = str(settings.plain_redis_url)
    url = ours if as_ourselves else f"redis://127.0.0.1:{urlsplit(ours).port}"
    with redis.Redis.from_url(url) as client:
        client.execute_command(*words.split())


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def capabilities(pid: int) -> dict[str, int]:
    """The sets of capabilities that aren't empty, by the kernel's names for them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: int(value, 16) for name, _, value in (line.partition(":\t") for line in lines) if name[:3] == "Cap"}
    return {name: value for name, value in found.items() if value}


def files_with(words: Iterable[str], folder: Path) -> Iterator[Path]:
    """The files in the folder that contain any of these words."""
    sought = [word.encode() for word in words]
    for path in folder.rglob("*"):
        if path.is_file() and any(word in path.read_bytes() for word in sought):
            yield path


def all_arguments() -> str:
    """Command lines and environments that any user of the machine can read."""
    seen: list[Any] = []
    for process in psutil.process_iter():
        try:
            seen += process.cmdline()
        except psutil.Error:
            continue
    return " ".join(seen)


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
