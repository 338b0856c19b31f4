"""One Redis as a cache: nothing is kept on disk, and the least long-lived entries give way when memory runs out."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local_stack.addresses import redis_url
from local_stack.server import listens
from local_stack.unprivileged import show, unprivileged

MAX_MEMORY = "256mb"

USER = "headrace"

ALLOWED = (
    "+@read +@write +@connection +@transaction -@scripting -@admin -@dangerous "
    "+eval +evalsha +script|load +script|exists"
)
"""The commands that the cache takes, as an ACL: neither settings nor files nor other servers are within reach."""


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
        return unprivileged([self.program, str(self._configuration_file)])

    def environment(self) -> dict[str, str]:
        return {}

    def addresses(self) -> dict[str, str]:
        return {"REDIS_URL": redis_url(self.port, self.password)}

    def problem(self) -> str | None:
        return problem(self.port, self.password)

    @property
    def _configuration_file(self) -> Path:
        return self.data / "redis.conf"


def problem(port: int, password: str) -> str | None:
    """Send PING to the server on this port; see Server.problem."""
    if not listens(port):
        return f"nothing listens on port {port}"
    # The client's own retries would turn one question into half a minute.
    client = redis.Redis.from_url(
        redis_url(port, password), socket_timeout=2.5, socket_connect_timeout=2.5, retry=Retry(NoBackoff(), 0)
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return f"does not answer PING: {error}"
    finally:
        client.close()
    return None
