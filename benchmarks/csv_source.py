"""The csv source against bare produce, of its records and of the file's lines: real Kafka, CPU and peak memory.

    python -m benchmarks.csv_source                          # 100 MB, a table, and benchmarks/results.json
    python -m benchmarks.csv_source --megabytes 1000 --json

Needs a running Kafka (KAFKA_BOOTSTRAP_SERVERS, or the running stack's). Topics of its own are made and deleted. Each
contender is a process of its own, in turn. `lines` is the loop that one would write first: it sends each line as it is,
without a key, headers, a look at what is in it or one at what became of it but for errors. `produce` sends records like
ours, with their keys and headers, which were made before the clock started. Ours finds out encoding, format and
numbers, makes each row a JSON object with its key and headers, and notes every confirmed offset. Afterwards all records
are counted in the broker. Memory is flat if the peak with the whole file is that with a fifth of it.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.customers import customers
from benchmarks.results import RESULTS, record
from producers.csv.source import CsvBlock, CsvSource
from producers.publish import publish
from producers.raw_records import Header, RawHeaders
from producers.source import SourceDescription
from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings, load_settings
from schemas.registry import dataset_named
from schemas.topics import all_topics

CUSTOMERS = dataset_named("customers")
TARGET = 0.5
"""The share of the rows per second of `produce` that ours must reach."""

AT_ONCE = 2000
"""Rows between two looks for delivery reports."""

CONTENDERS = {"lines": "lines as they are", "produce": "records made before", "source": "source"}

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Figures(NamedTuple):
    """What one contender did with one file, measured by itself from its first look at the file to its last report."""

    contender: str
    rows: int
    rows_per_second: float
    cpu_us: float
    """Processor time per row, of all its threads."""
    peak_mb: float


@cli.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    megabytes: Annotated[int, typer.Option(min=1, help="Size of the file.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often; the median counts.")] = 3,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, print, keep the figures, and exit with 1 if the target is missed."""
    if context.invoked_subcommand:
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        whole, fifth = Path(folder, "customers.csv"), Path(folder, "fifth.csv")
        rows, rows_of_fifth = write(whole, megabytes * 1_000_000), write(fifth, megabytes * 200_000)
        done = [measure(name, whole, rows) for _ in range(rounds) for name in CONTENDERS]
        small = measure("source", fifth, rows_of_fifth)
    figures = summary(megabytes, rows, done, small)
    record("csv_source", figures, results)
    typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode() if as_json else as_table(done, figures))
    raise typer.Exit(0 if figures["source_to_produce"] >= TARGET else 1)


Outgoing = tuple[bytes | None, str | None, list[Header]]


@cli.command(hidden=True)
def lines(path: Path) -> None:
    """Read lines and produce them."""
    with path.open("rb") as file:
        next(file)
        produce_bare("lines", ((line, None, []) for line in file))


@cli.command(hidden=True)
def produce(path: Path) -> None:
    """Produce the first rows' records again and again, as many as the file has rows."""
    block, description = described(path)
    records = next(CsvSource(description, block, path).read()).records
    headers = RawHeaders(description, str(uuid.uuid4()))
    made: list[Outgoing] = [(one.value, one.key, headers.of(number, None)) for number, one in enumerate(records)]
    with path.open("rb") as file:
        rows = sum(1 for _ in file) - 1
    produce_bare("produce", islice(cycle(made), rows))


def produce_bare(contender: str, records: Iterable[Outgoing]) -> None:
    """The least that can be done with confluent-kafka."""
    settings = load_settings()
    producer = Producer(producer_config(settings))
    topic, errors = settings.named(CUSTOMERS.raw_topic), []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            errors.append(error)

    began = Began()
    rows = 0
    for value, key, headers in records:
        while True:
            try:
                producer.produce(topic, value, key, -1, on_delivery, headers=headers)
                break
            except BufferError:
                producer.poll(0.01)
        rows += 1
        if not rows % AT_ONCE:
            producer.poll(0)
    producer.flush()
    if errors:
        raise SystemExit(f"not delivered: {errors[0]}")
    began.tell(contender, rows)


def described(path: Path) -> tuple[CsvBlock, SourceDescription]:
    """The file as a source that nothing is said about."""
    block = CsvBlock.model_validate({"kind": "csv", "dataset": "customers", "path": str(path)})
    return block, block.describe("benchmark")


@cli.command(hidden=True)
def source(path: Path) -> None:
    """Publish the file as a run does."""
    settings = load_settings()
    block, description = described(path)
    began = Began()
    report = asyncio.run(publish(CsvSource(description, block, path), settings))
    began.tell("source", report.published)


class Began:
    """Where the figures of this process stood."""

    def __init__(self) -> None:
        self._at, self._cpu = time.perf_counter(), time.process_time()

    def tell(self, contender: str, rows: int) -> None:
        """Print this process's figures since then."""
        seconds, cpu = time.perf_counter() - self._at, time.process_time() - self._cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        figures = Figures(contender, rows, round(rows / seconds), round(cpu / rows * 1e6, 2), round(peak, 1))
        typer.echo(msgspec.json.encode(figures).decode())


def write(path: Path, size: int) -> int:
    """Write so many bytes of customers, or a little more; returns how many rows they are."""
    rows = written = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for _, value in customers(sys.maxsize, "csv"):
            fields = msgspec.json.decode(value, type=dict[str, str])
            if not rows:
                file.write(",".join(fields) + "\n")
            written += file.write(",".join(_cell(text) for text in fields.values()) + "\n")
            rows += 1
            if written >= size:
                return rows
    return rows


def _cell(text: str) -> str:
    return f'"{text}"' if "," in text else text


def measure(contender: str, path: Path, rows: int) -> Figures:
    """Let one contender publish the file, into topics of its own, and count what has arrived."""
    settings = load_settings(headrace_namespace=f"bench-{uuid.uuid4().hex[:8]}")
    ensure_topics(settings)
    environment = os.environ | {
        "HEADRACE_NAMESPACE": settings.namespace,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "LOG_LEVEL": "WARNING",
    }
    try:
        command = [sys.executable, "-m", "benchmarks.csv_source", contender, str(path)]
        told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        if (arrived := count(settings)) != rows:
            raise SystemExit(f"{contender}: {arrived} of {rows} rows are in the topic")
        return msgspec.json.decode(told.splitlines()[-1], type=Figures)
    finally:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
        for deletion in admin.delete_topics([settings.named(topic.name) for topic in all_topics()]).values():
            deletion.result()


def count(settings: Settings) -> int:
    """Records in the raw topic."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "benchmark"})
    topic = settings.named(CUSTOMERS.raw_topic)
    places = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
    return sum(consumer.get_watermark_offsets(place)[1] for place in places)


def summary(megabytes: int, rows: int, done: list[Figures], small: Figures) -> dict[str, Any]:
    """Medians of the rounds, and their ratios. Pure."""

    def of(contender: str, figure: str) -> float:
        return float(median(getattr(one, figure) for one in done if one.contender == contender))

    return {
        "megabytes": megabytes,
        "records": rows,
        **{
            f"source_to_{name}": round(of("source", "rows_per_second") / of(name, "rows_per_second"), 2)
            for name in ("produce", "lines")
        },
        "source_to_produce_cpu": round(of("produce", "cpu_us") / of("source", "cpu_us"), 2),
        "source_peak_mb_of_a_fifth": small.peak_mb,
        "rows": {
            CONTENDERS[name]: {
                "records_per_second": of(name, "rows_per_second"),
                "cpu_us": of(name, "cpu_us"),
                "peak_mb": of(name, "peak_mb"),
            }
            for name in CONTENDERS
        },
    }


def as_table(done: list[Figures], figures: dict[str, Any]) -> str:
    """For people."""
    table = [f"{'':10}{'rows':>12}{'rows/s':>12}{'CPU µs':>10}{'peak MB':>10}"]
    table += [f"{one[0]:10}{one.rows:>12,}{one[2]:>12,.0f}{one.cpu_us:>10.2f}{one.peak_mb:>10.0f}" for one in done]
    ratio = f"source / produce: {figures['source_to_produce']} of the rows per second, at least {TARGET:g} are wanted"
    memory = f"peak with a fifth of the file: {figures['source_peak_mb_of_a_fifth']:.0f} MB"
    return "\n".join([*table, ratio, memory])


if __name__ == "__main__":
    cli()
