"""The normalizer beside other projects' stream processors: the same raw customers, the same rules, one process each.

    python -m benchmarks.peers.normalize                   # a table, and benchmarks/results.json
    python -m benchmarks.peers.normalize --only "Kafka Streams" --records 100000 --rounds 1

Needs a running Kafka (`headrace up --servers-only`). Each candidate is installed the first time (minutes), and then
works off so many waiting records from topics of its own. The first half of them is its warm-up and stands as `cold`;
what counts is the second. Afterwards every record must be there once, and those of a sample must be the same as ours.
Slow candidates are given fewer records.
"""

import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from confluent_kafka.admin import AdminClient

from benchmarks.customers import Raw, customers
from benchmarks.peers.installing import interpreter, java_command
from benchmarks.peers.racing import (
    HEADERS,
    Failed,
    Race,
    end_of,
    measure,
    publish,
    records_of,
    running,
    watch,
)
from benchmarks.results import RESULTS, record
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings, load_settings
from schemas.registry import dataset_named
from schemas.topics import FAILURES_TOPIC, all_topics
from stream_processors.normalize import Normalized, RecordNormalizer

CUSTOMERS = dataset_named("customers")
OURS = "Headrace"
SAMPLE = 100
"""Of so many records one is compared."""

PROGRAMS = "benchmarks.peers.programs"
JVM = ("-Xmx512m", "-XX:+UseG1GC")
JVM_OF_FLINK = ("-Xmx1g", "-XX:+UseG1GC", "--add-opens=java.base/java.util=ALL-UNNAMED")
"""The package is opened as the scripts of its distribution do; the heap holds a job manager besides."""


class Candidate(NamedTuple):
    """Its command, installed when asked for, and the share of the records that it is given."""

    command: Callable[[], list[str]]
    share: float = 1.0


def _python(program: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"{PROGRAMS}.{program}", *words]


def _peer(name: str, *words: str) -> list[str]:
    return [str(interpreter(name)), "-m", *words]


CANDIDATES = {
    OURS: Candidate(lambda: [sys.executable, "-m", "cli", "normalizer"]),
    "bare confluent-kafka loop": Candidate(partial(_python, "bare")),
    "Kafka Streams": Candidate(lambda: java_command("streams", "Normalize", *JVM)),
    "Flink SQL": Candidate(lambda: java_command("flink", "NormalizeInSql", *JVM_OF_FLINK)),
    "Bytewax": Candidate(partial(_peer, "bytewax", "bytewax.run", f"{PROGRAMS}.bytewax_flow:flow", "-w", "1")),
    "Quix Streams": Candidate(partial(_peer, "quix", f"{PROGRAMS}.quix"), 0.4),
    "FastStream, batches": Candidate(partial(_peer, "faststream", f"{PROGRAMS}.faststream_batch"), 0.2),
    "Pathway": Candidate(partial(_peer, "pathway", f"{PROGRAMS}.pathway_table"), 0.2),
    "stock Faust, take": Candidate(partial(_python, "faust_agent", "take"), 0.08),
    "stock Faust, event by event": Candidate(partial(_python, "faust_agent"), 0.08),
}


def main(
    records: Annotated[int, typer.Option(min=1000, help="Records; the second half of them counts.")] = 400_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians count.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Leave the others out.")] = None,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, print, and keep the figures. Exit code 1 when ours failed."""
    chosen = {name: one for name, one in CANDIDATES.items() if not only or name in only}
    runs = {name: partial(run, name, one, max(int(records * one.share), 1000)) for name, one in chosen.items()}
    figures = measure(runs, rounds, records, "records_per_second", OURS)
    record("peers_normalize", figures, results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
    raise typer.Exit(1 if OURS in figures["left_out"] else 0)


def run(name: str, candidate: Candidate, records: int) -> Race:
    """One candidate once, in topics of its own. Raises NotInstalled or Failed."""
    command = candidate.command()
    settings = load_settings(headrace_namespace=f"bench-{uuid.uuid4().hex[:8]}")
    ensure_topics(settings)
    try:
        publish(settings, settings.named(CUSTOMERS.raw_topic), customers(records, "p-"))
        with running([command], variables(settings)) as processes:
            clean = end_of(settings, settings.named(CUSTOMERS.clean_topic))
            race = watch(processes, [], clean, records)
        check(name, settings, records)
        return race
    finally:
        delete_topics(settings)


def variables(settings: Settings, form: str = "envelope") -> dict[str, str]:
    """Environment of a candidate: where it reads and writes."""
    return {
        "HEADRACE_NAMESPACE": settings.namespace,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "LOG_LEVEL": "WARNING",
        "PEER_RAW": settings.named(CUSTOMERS.raw_topic),
        "PEER_CLEAN": settings.named(CUSTOMERS.clean_topic),
        "PEER_FAILURES": settings.named(FAILURES_TOPIC),
        "PEER_GROUP": f"{settings.namespace}-peer",
        "PEER_PARTITIONS": str(settings.topic_partitions),
        "PEER_FORM": form,
    }


_normalize = RecordNormalizer(CUSTOMERS).normalize


def as_normalized(topic: str, partition: int, offset: int, key: bytes, value: bytes) -> Normalized:
    """A customer as our normalizer makes it, with an envelope. Raises ValueError for one that is refused."""
    outcome = _normalize(Raw(topic, partition, offset, int(time.time() * 1000), key, value, HEADERS), 0)
    if not isinstance(outcome, Normalized):
        raise ValueError(f"a customer of the benchmark is refused: {outcome}")  # noqa: TRY004 (of a value)
    return outcome


def expected(records: int) -> dict[bytes, Any]:
    """The clean values of a sample of the customers that were sent, by key: what our rules make of them."""
    sample = (one for number, one in enumerate(customers(records, "p-")) if number % SAMPLE == 0)
    found = [as_normalized("raw", 0, 0, key, value) for key, value in sample]
    return {one.key: msgspec.json.decode(one.value)["data"] for one in found}


def check(name: str, settings: Settings, records: int) -> None:
    """Every record is in the clean topic, and those of the sample hold what ours hold. Raises Failed."""
    wanted, keys = expected(records), set()
    for message in records_of(settings, settings.named(CUSTOMERS.clean_topic)):
        key = message.key()
        keys.add(key)
        if key in wanted and (found := msgspec.json.decode(message.value())["data"]) != wanted[key]:
            raise Failed(f"{name} makes {found} of a record that is {wanted[key]}")
    if len(keys) != records or not wanted.keys() <= keys:
        raise Failed(f"{name} has {len(keys):,} of {records:,} records")


def delete_topics(settings: Settings) -> None:
    """Take back the topics of this namespace."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for deletion in admin.delete_topics([settings.named(topic.name) for topic in all_topics()]).values():
        deletion.result()


if __name__ == "__main__":
    typer.run(main)
