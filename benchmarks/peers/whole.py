"""All of it beside Kafka Streams and Kafka Connect: the same raw customers into Postgres and Elasticsearch.

    python -m benchmarks.peers.whole                   # a table, and benchmarks/results.json
    python -m benchmarks.peers.whole --records 100000 --rounds 1

Every run has servers of its own (10 s, 2 GB). Ours are the normalizer and all sinks, which besides keep each raw
record, versions and coverage, confirm a change event for each row, and invalidate in Redis. The peers are Kafka Streams
(the rules in Java), Kafka Connect with Debezium's JDBC sink, and into Elasticsearch a bare loop that posts the topic's
bytes in bulk, since Maven Central has no such connector. The first half of the records waits when the processes start:
it is warm-up, and stands as `cold`. Once both stores have it, the second half is published, with the processes frozen.
One store may be far ahead of the other, so no moment in between would be half of the work. CPU is that of the
processes, and beside it that of the servers. Afterwards all is counted in both stores, and a sample compared.
"""

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
import psutil
import typer
from pydantic import SecretStr

from benchmarks.customers import customers
from benchmarks.peers import connect
from benchmarks.peers.installing import java_command
from benchmarks.peers.normalize import CUSTOMERS, JVM, PROGRAMS, variables
from benchmarks.peers.racing import Failed, Race, frozen, measure, publish, running, watch
from benchmarks.peers.store import ask, check, prepare
from benchmarks.results import RESULTS, record
from local_stack.addresses import assign_ports
from local_stack.servers import RunningServers, start_servers
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings, load_settings
from schemas.sinks import SINKS
from stores.search_index import alias_name, index_mapping

OURS = "Headrace"
PEERS = "Kafka Streams + Kafka Connect"
LOOK_SECONDS = 0.4
INDEX = "peer-customers"

Commands = Callable[[Settings, Path], list[list[str]]]


def our_processes(*_: object) -> list[list[str]]:
    """The normalizer and every sink, each with a port of its own for its health."""
    roles = (["normalizer"], *(["sink", sink.name] for sink in SINKS))
    names = [f"PORT_{number}" for number in range(len(roles))]
    ports = assign_ports(dict.fromkeys(names, 0), environment={}, remembered={}, free=True)
    program = [sys.executable, "-m", "cli"]
    return [["env", f"HEALTH_PORT={ports[name]}", *program, *role] for name, role in zip(names, roles, strict=True)]


def peer_processes(settings: Settings, folder: Path) -> list[list[str]]:
    """Kafka Streams, a worker of Kafka Connect, and the loop into Elasticsearch. Raises NotInstalled."""
    clean = settings.named(CUSTOMERS.clean_topic)
    return [
        java_command("streams", "Normalize", *JVM),
        connect.command(settings, clean, folder),
        [sys.executable, "-m", f"{PROGRAMS}.bulk_loop"],
    ]


CANDIDATES: Mapping[str, Commands] = {OURS: our_processes, PEERS: peer_processes}


def main(
    records: Annotated[int, typer.Option(min=1000, help="Records; the second half of them counts.")] = 300_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians count.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Leave the others out.")] = None,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, print, and keep the figures. Exit code 1 when ours failed."""
    chosen = {name: one for name, one in CANDIDATES.items() if not only or name in only}
    runs = {name: partial(run, name, one, records) for name, one in chosen.items()}
    figures = measure(runs, rounds, records, "records_per_second", OURS)
    record("peers_whole", figures, results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
    raise typer.Exit(1 if OURS in figures["left_out"] else 0)


def run(name: str, commands: Commands, records: int) -> Race:
    """One candidate once, on servers of its own. Raises NotInstalled or Failed."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home, start_servers(Path(home)) as servers:
        settings = _settings(servers)
        ours = name == OURS
        words = commands(settings, Path(home))
        addresses = variables(settings, "connect") | servers.addresses | {"PEER_INDEX": INDEX, "HEADRACE_HOME": home}
        ensure_topics(settings)
        table, index = ("customers", alias_name(CUSTOMERS, settings)) if ours else (connect.TABLE, INDEX)
        prepare(settings, ours)
        if ours:
            with running([[sys.executable, "-m", "cli", "setup"]], addresses) as (setup,):
                setup.wait()
        else:
            make_index(settings)
        topic, raw = settings.named(CUSTOMERS.raw_topic), customers(records, "p-")
        publish(settings, topic, islice(raw, ceil(records / 2)))
        with running(words, addresses) as processes:
            watched = [
                psutil.Process(servers.pid(server)) for server in ("kafka", "postgres", "elasticsearch", "redis")
            ]

            def second_half() -> None:
                with frozen(processes):
                    publish(settings, topic, raw)

            race = watch(processes, watched, partial(count, settings, table, index), records, second_half)
        check(name, settings, table, records)
        if (found := documents(settings, index)) != records:
            raise Failed(f"{name} has {found:,} of {records:,} documents")
        return race


def _settings(servers: RunningServers) -> Settings:
    at = servers.addresses
    return load_settings(
        headrace_namespace=f"bench-{uuid.uuid4().hex[:8]}",
        kafka_bootstrap_servers=at["KAFKA_BOOTSTRAP_SERVERS"],
        database_url=SecretStr(at["DATABASE_URL"]),
        elasticsearch_url=at["ELASTICSEARCH_URL"],
    )


def make_index(settings: Settings) -> None:
    """The peers' index: our fields' mappings, without the folded text that ours is searched by; a date is its days."""
    mapping = index_mapping(CUSTOMERS)
    fields = {name: kind for name, kind in mapping["properties"].items() if name in connect.FIELDS}
    fields["date_of_birth"] = {"type": "integer"}
    body = {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"dynamic": False, "properties": fields},
    }
    httpx.put(f"{settings.elasticsearch_url}/{INDEX}", json=body, timeout=60, trust_env=False).raise_for_status()


def count(settings: Settings, table: str, index: str) -> int:
    """Records that both stores have taken, and a wait, so that counting is not what they are busy with."""
    time.sleep(LOOK_SECONDS)
    rows = int(asyncio.run(ask(settings, f"SELECT count(*) AS n FROM {table}"))[0]["n"])  # noqa: S608 (ours)
    if not rows:
        return 0
    url = f"{settings.elasticsearch_url}/{index}/_stats/indexing"
    indexed = httpx.get(url, timeout=60, trust_env=False).json()["_all"]["primaries"]["indexing"]["index_total"]
    return min(rows, int(indexed))


def documents(settings: Settings, index: str) -> int:
    """Documents that a search finds now."""
    base = f"{settings.elasticsearch_url}/{index}"
    httpx.post(f"{base}/_refresh", timeout=60, trust_env=False).raise_for_status()
    return int(httpx.get(f"{base}/_count", timeout=60, trust_env=False).json()["count"])


if __name__ == "__main__":
    typer.run(main)
