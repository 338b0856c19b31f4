"""Finds each server's program on this machine, and builds the servers.

`python -m local_stack.installations` does so beforehand: `make build`, so that `make up` need not.
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from local_stack.elasticsearch import Elasticsearch, find_elasticsearch
from local_stack.errors import StackError
from local_stack.kafka import build_nodes, find_kafka
from local_stack.maven import JavaServer
from local_stack.postgres import Postgres, find_postgres
from local_stack.redis import Redis, RedisProgram, find_redis
from local_stack.server import Server
from local_stack.unprivileged import reachable

SERVER_NAMES = ("kafka", "postgres", "redis", "elasticsearch")
"""In order of starting."""

INSTEAD = {
    "redis": "reads come from Postgres",
    "elasticsearch": "search answers from Postgres",
}
"""The servers that a stack can do without, and what happens instead."""

REMEDIES = {
    "redis": "apt install redis-server (Debian, Ubuntu), brew install valkey (macOS).",
    "elasticsearch": "install a JDK 21 or newer, or set JAVA_HOME.",
}


def is_server(program: str) -> bool:
    """True for the name of a server; further nodes of Kafka are called kafka-2, kafka-3."""
    return program in SERVER_NAMES or program.startswith("kafka-")


@dataclass(frozen=True)
class Installations:
    """The programs that were found; None for servers that were not asked for."""

    kafka: JavaServer | None = None
    postgres: Path | None = None
    redis: RedisProgram | None = None
    elasticsearch: JavaServer | None = None
    without: Mapping[str, str] = field(default_factory=dict)
    """Servers that were asked for and can't be had, and why."""


def find_installations(
    names: Collection[str] = SERVER_NAMES, *, data: Path | None = None, starting: Callable[[str], None] = lambda _: None
) -> Installations:
    """Find or resolve the programs of these servers; `starting` is called with each name before its search.

    Blocking: two minutes on a new machine, instant afterwards. Raises StackError when one is missing, except
    Redis, and Elasticsearch for lack of a JDK, which a stack can do without.
    """
    if unknown := set(names) - set(SERVER_NAMES):
        raise ValueError(f"unknown servers: {', '.join(sorted(unknown))}")
    searches: dict[str, Callable[[], object]] = {
        "postgres": lambda: find_postgres(data / "postgres" if data else None),
        "redis": find_redis,
        "kafka": find_kafka,
        "elasticsearch": find_elasticsearch,
    }
    found: dict[str, Any] = {}
    without: dict[str, str] = {}
    for name, search in searches.items():
        if name in names:
            starting(name)
            answer = search()
            if isinstance(answer, str):
                without[name] = answer
            else:
                found[name] = answer
    return Installations(**found, without=without)


def build_servers(
    found: Installations,
    data: Path,
    ports: Mapping[str, int],
    passwords: Mapping[str, str],
    *,
    brokers: int = 1,
    superuser_password: str | None = None,
) -> list[Server]:
    """The servers that were found, in order of starting, each with a folder of its own under `data`.

    `passwords` are those that `make_passwords` makes; with another one Postgres lets its superuser in.
    """
    servers: list[Server] = []
    if found.kafka:
        servers += build_nodes(found.kafka, data, ports, brokers)
    if found.postgres:
        port, password = ports["POSTGRES_PORT"], passwords["postgres"]
        servers.append(Postgres(found.postgres, data / "postgres", port, password, superuser_password))
    if found.redis:
        program = str(reachable(Path(found.redis.program)))
        servers.append(Redis(program, data / "redis", ports["REDIS_PORT"], passwords["redis"]))
    if found.elasticsearch:
        http, transport = ports["ELASTICSEARCH_PORT"], ports["ELASTICSEARCH_TRANSPORT_PORT"]
        servers.append(Elasticsearch(found.elasticsearch, data / "elasticsearch", http, transport))
    return servers


def main() -> int:
    """Resolve all servers; the exit code. Blocking: a minute the first time."""
    console = Console(highlight=False)
    try:
        found = find_installations(starting=lambda name: console.print(f"finding {name} …"))
    except StackError as error:
        Console(stderr=True, highlight=False).print(f"Error: {error}", markup=False)
        return 1
    if found.redis:
        console.print(f"found {found.redis}", markup=False)
    for server, why in found.without.items():
        console.print(f"No {server}: {why}. So {INSTEAD[server]}. To have one: {REMEDIES[server]}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
