"""The Postgres sink beside other projects' ways from a Kafka topic into Postgres: the same customers, upserted by key.

    python -m benchmarks.peers.store                   # a table, and benchmarks/results.json
    python -m benchmarks.peers.store --only "SQLAlchemy, row by row" --records 20000 --rounds 1

Needs a running Kafka (`headrace up --servers-only`); every run has a Postgres of its own. Each candidate is installed
the first time (minutes), and then works off waiting clean records: ours with their envelopes, the peers without any.
The first half is warm-up and stands as `cold`; what counts is the second. The peers' table has the customers' columns,
key and unique e-mail; ours has versions, coverage and a confirmed change event for each row besides. Afterwards all
rows must be there, and those of a sample must hold what was sent. Slow candidates are given fewer records.
"""

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import asyncpg
import msgspec
import psutil
import typer
from confluent_kafka import Producer
from pydantic import SecretStr

from benchmarks.customers import customers
from benchmarks.peers import connect
from benchmarks.peers.installing import interpreter
from benchmarks.peers.normalize import CUSTOMERS, PROGRAMS, as_normalized, delete_topics, expected, variables
from benchmarks.peers.racing import Failed, Race, measure, produce, running, watch
from benchmarks.results import RESULTS, record
from local_stack.servers import start_servers
from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings, load_settings
from stores.migrate import migrate
from stream_processors.normalize import Normalized

OURS = "Headrace"
COUNT_SECONDS = 0.4
"""Between two counts, each of which costs Postgres some milliseconds."""


class _Envelope(msgspec.Struct):
    data: msgspec.Raw


def data_alone(clean: Normalized) -> bytes:
    """The customer without an envelope. Pure."""
    return bytes(msgspec.json.decode(clean.value, type=_Envelope).data)


class Candidate(NamedTuple):
    """Gives its command, installed when asked for, from settings, topic and a folder; and its share of the records."""

    command: Callable[[Settings, str, Path], list[str]]
    share: float = 1.0
    form: Callable[[Normalized], bytes] = data_alone
    """Makes the value that it finds in the clean topic."""


def _program(environment: str | None, name: str, *_: Any) -> list[str]:
    python = sys.executable if environment is None else str(interpreter(environment))
    return [python, "-m", f"{PROGRAMS}.{name}"]


CANDIDATES = {
    OURS: Candidate(lambda *_: [sys.executable, "-m", "cli", "sink", "postgres"], form=lambda clean: clean.value),
    "bare loop: consume, decode, COPY": Candidate(partial(_program, None, "copy_loop")),
    "Kafka Connect, Debezium JDBC": Candidate(
        connect.command, 0.5, lambda clean: connect.as_connect_takes_it(msgspec.json.decode(data_alone(clean)))
    ),
    "dlt, merge": Candidate(partial(_program, "dlt", "dlt_merge")),
    "SQLAlchemy, row by row": Candidate(partial(_program, "sqlalchemy", "sqlalchemy_rows"), 0.05),
}


def main(
    records: Annotated[int, typer.Option(min=1000, help="Records; the second half of them counts.")] = 300_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians count.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Leave the others out.")] = None,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, print, and keep the figures. Exit code 1 when ours failed."""
    chosen = {name: one for name, one in CANDIDATES.items() if not only or name in only}
    runs = {name: partial(run, name, one, max(int(records * one.share), 1000)) for name, one in chosen.items()}
    figures = measure(runs, rounds, records, "rows_per_second", OURS)
    record("peers_store", figures, results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
    raise typer.Exit(1 if OURS in figures["left_out"] else 0)


def run(name: str, candidate: Candidate, records: int) -> Race:
    """One candidate once, in topics and in a Postgres of its own. Raises NotInstalled or Failed."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as home,
        start_servers(Path(home), {"postgres"}) as servers,
    ):
        url = servers.addresses["DATABASE_URL"]
        settings = load_settings(headrace_namespace=namespace, database_url=SecretStr(url))
        command = candidate.command(settings, settings.named(CUSTOMERS.clean_topic), Path(home))
        ours = name == OURS
        ensure_topics(settings)
        try:
            prepare(settings, ours)
            publish_clean(settings, records, candidate.form)
            with running([command], variables(settings) | {"DATABASE_URL": url}) as processes:
                server = psutil.Process(servers.pid("postgres"))
                count = partial(count_rows, settings, "customers" if ours else connect.TABLE)
                race = watch(processes, [server], count, records)
            check(name, settings, "customers" if ours else connect.TABLE, records)
            return race
        finally:
            delete_topics(settings)


def prepare(settings: Settings, ours: bool) -> None:
    """Make the tables."""
    if ours:
        migrate(settings)
    else:
        asyncio.run(ask(settings, connect.CREATE_TABLE))


def publish_clean(settings: Settings, records: int, form: Callable[[Normalized], bytes]) -> None:
    """Normalized customers into the clean topic, in the form that a candidate takes."""
    producer = Producer(producer_config(settings))
    offsets = [0] * settings.topic_partitions
    topic = settings.named(CUSTOMERS.clean_topic)
    for number, (key, value) in enumerate(customers(records, "p-")):
        partition = number % settings.topic_partitions
        outcome = as_normalized(settings.named(CUSTOMERS.raw_topic), partition, offsets[partition], key, value)
        offsets[partition] += 1
        produce(producer, topic, outcome.key, form(outcome), partition)
    if producer.flush(120):
        raise Failed("Kafka did not take the records within 120 s")


def count_rows(settings: Settings, table: str) -> int:
    """Rows of the table now, and a wait, so that counting is not what Postgres is busy with."""
    time.sleep(COUNT_SECONDS)
    return int(asyncio.run(ask(settings, f"SELECT count(*) AS n FROM {table}"))[0]["n"])  # noqa: S608 (ours)


def check(name: str, settings: Settings, table: str, records: int) -> None:
    """Every row is there, and those of the sample hold what was sent. Raises Failed."""
    rows = {
        row["customer_id"].encode(): {
            field: row[field] if row[field] is None else str(row[field]) for field in connect.FIELDS
        }
        for row in asyncio.run(ask(settings, f"SELECT {', '.join(connect.FIELDS)} FROM {table}"))  # noqa: S608 (ours)
    }
    if len(rows) != records:
        raise Failed(f"{name} has {len(rows):,} of {records:,} rows")
    for key, wanted in expected(records).items():
        if rows.get(key) != wanted:
            raise Failed(f"{name} stored {rows.get(key)} of a record that is {wanted}")


async def ask(settings: Settings, query: str) -> Any:
    """The rows that a query gives."""
    connection = await asyncpg.connect(settings.plain_database_url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


if __name__ == "__main__":
    typer.run(main)
