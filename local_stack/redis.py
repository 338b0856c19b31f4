"""One Redis as a cache: nothing is kept on disk, and the least long-lived entries give way when memory runs out."""

from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local_stack.server import listens

MAX_MEMORY = "256mb"


@dataclass(frozen=True)
class Redis:
    """A Redis server; implements Server."""

    program: str
    data: Path
    port: int

    name = "redis"
    stop_signal = "TERM"

    def prepare(self) -> None:
        """Make its working folder. Implements Server.prepare."""
        self.data.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.data),
            "--save": "",
            "--appendonly": "no",
            "--maxmemory": MAX_MEMORY,
            # Every entry has a time to live; version floors live longer than fills and so go last.
            "--maxmemory-policy": "volatile-ttl",
        }
        return [self.program, *(word for option in options.items() for word in option)]

    def environment(self) -> dict[str, str]:
        return {}

    def addresses(self) -> dict[str, str]:
        return {"REDIS_URL": redis_url(self.port)}

    def problem(self) -> str | None:
        return problem(self.port)


def redis_url(port: int) -> str:
    """The URL of the one database that is used."""
    return f"redis://127.0.0.1:{port}/0"


def problem(port: int) -> str | None:
    """Send PING to the server on this port; see Server.problem."""
    if not listens(port):
        return f"nothing listens on port {port}"
    # The client's own retries would turn one question into half a minute.
    client = redis.Redis(port=port, socket_timeout=2.5, socket_connect_timeout=2.5, retry=Retry(NoBackoff(), 0))
    try:
        client.ping()
    except redis.RedisError as error:
        return f"does not answer PING: {error}"
    finally:
        client.close()
    return None
