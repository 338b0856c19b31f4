"""The normalizer against stock Faust and a bare confluent-kafka loop: same records, same work, one after the other.

    python -m benchmarks.faust_stage                 # a table
    python -m benchmarks.faust_stage --json          # for scripts; --results FILE says where figures are kept
    python -m benchmarks.faust_stage --memory        # peak memory with 1,000,000 records waiting

Needs a running Kafka (KAFKA_BOOTSTRAP_SERVERS, or the running stack's). Topics of its own are made and deleted. The
clock runs from the first output to the last, as the broker's end offsets show them, so neither start-up nor a last
commit counts. The machine is shared and noisy: only the ratios within one run mean something.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import msgspec
import psutil
import typer
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table

from benchmarks.customers import Raw
from benchmarks.results import RESULTS, record, spread
from runtime.kafka.clients import consumer_config, producer_config
from runtime.kafka.topic_admin import ensure_topics, until_settled
from runtime.settings import Settings, load_settings
from schemas.events import HEADER_KIND, HEADER_RUN, HEADER_SOURCE
from schemas.registry import dataset_named
from schemas.topics import FAILURES_TOPIC, all_topics
from stream_processors.normalize import RecordNormalizer

RAW, CLEAN = "customers.raw", "customers.clean"
BATCH = 5000
TIMEOUT_SECONDS = 600.0

MINIMUM_OF_STOCK = 15.0
MINIMUM_OF_BARE = 0.5
MAXIMUM_MEGABYTES = 200.0

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Figures(NamedTuple):
    """What one contender did."""

    contender: str
    records: int
    seconds: float
    records_per_second: float
    cpu_microseconds: float
    """Processor time per record, of the contender's process alone: what a busy machine distorts least."""
    peak_megabytes: float


@cli.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    records: Annotated[int, typer.Option(min=1000, help="Records for ours and the bare loop.")] = 300_000,
    stock_records: Annotated[int, typer.Option(min=1000, help="Records for stock Faust.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured; the best counts.")] = 3,
    memory: Annotated[bool, typer.Option("--memory", help="Measure ours with 1,000,000 records waiting.")] = False,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, print, and exit with 1 if a target is missed."""
    if context.invoked_subcommand:
        return
    runs = [("ours", 1_000_000)] if memory else [("stock", stock_records), ("bare", records), ("ours", records)]
    # Rounds take turns, so a noisy minute hits all; the best of each is the one that was disturbed least.
    done = [measure(contender, count) for _ in range(rounds) for contender, count in runs]
    figures = {
        name: max((f for f in done if f.contender == name), key=lambda f: f.records_per_second) for name, _ in runs
    }
    targets = memory_target(figures["ours"]) if memory else speed_targets(figures)
    record("faust_stage_memory" if memory else "faust_stage", kept(done), results)
    if as_json:
        result = {"contenders": [f._asdict() for f in figures.values()], "targets": targets}
        typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        show(list(figures.values()), targets)
    raise typer.Exit(0 if all(target["reached"] for target in targets) else 1)


@cli.command(hidden=True)
def stock() -> None:
    """One event at a time, as Faust's documentation shows it."""
    import faust

    settings, normalizer = load_settings(), RecordNormalizer(dataset_named("customers"))
    app = faust.App(
        settings.named("stock"),
        broker=f"kafka://{settings.kafka_bootstrap_servers}",
        datadir=settings.home,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    raw = app.topic(settings.named(RAW), key_type=bytes, value_type=bytes, value_serializer="raw")
    clean = app.topic(settings.named(CLEAN), key_type=bytes, value_type=bytes, value_serializer="raw")

    @app.agent(raw)
    async def normalize(stream: Any) -> None:
        async for event in stream.events():
            m = event.message
            record = Raw(m.topic, m.partition, m.offset, int(m.timestamp * 1000), m.key, m.value, m.headers)
            outcome = normalizer.normalize(record, 0)
            await clean.send(key=outcome.key, value=outcome.value, partition=m.partition)

    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


@cli.command(hidden=True)
def bare() -> None:
    """The least that can be done with confluent-kafka: consume, normalize, produce, flush, commit."""
    settings, normalizer = load_settings(), RecordNormalizer(dataset_named("customers"))
    consumer = Consumer(consumer_config(settings, "bare"))
    producer = Producer(producer_config(settings))
    consumer.subscribe([settings.named(RAW)])
    clean, errors = settings.named(CLEAN), []

    def on_delivery(error: Any, _: Message) -> None:
        if error is not None:
            errors.append(error)

    while True:
        for message in consumer.consume(BATCH, timeout=0.1):
            record = Raw(
                message.topic() or "",
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                message.key(),
                message.value(),
                message.headers(),
            )
            outcome = normalizer.normalize(record, 0)
            producer.produce(clean, outcome.value, outcome.key, record.partition, on_delivery)
        producer.flush()
        if errors:
            raise SystemExit(f"not delivered: {errors[0]}")
        if consumer.assignment():
            consumer.commit(asynchronous=True)


def measure(contender: str, records: int) -> Figures:
    """Let one contender work through `records` waiting ones, on topics of its own."""
    settings = load_settings(headrace_namespace=f"bench-{uuid.uuid4().hex[:8]}")
    ensure_topics(settings)
    try:
        publish(settings, records)
        with running(contender, settings) as process:
            return follow(contender, settings, process, records)
    finally:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
        for deletion in admin.delete_topics([settings.named(topic.name) for topic in all_topics()]).values():
            deletion.result()


def publish(settings: Settings, records: int) -> None:
    """Customers as the customer API gives them, in their raw topic."""
    producer = Producer(producer_config(settings))
    run = uuid.uuid4().bytes.hex().encode()
    for number in range(records):
        value = {
            "customer_id": f"CUST{number:07}",
            "first_name": "Anna",
            "last_name": f"Müller-{number}",
            "email": f"Anna.Mueller{number}@Example.com",
            "phone": "+49 (30) 1234-567",
            "address": "12 Long Street, 10115 Berlin",
            "date_of_birth": "1980-01-31",
            "account_balance": number % 1000 + 0.5,
        }
        headers: list[tuple[str, str | bytes | None]] = [  # as RawHeaders puts them
            (HEADER_SOURCE, b"customers"), (HEADER_KIND, b"api"), (HEADER_RUN, run),
            ("ce_specversion", b"1.0"), ("ce_type", b"customers.raw"), ("ce_source", b"customers"),
            ("ce_time", b"2026-01-31T12:00:00Z"), ("content-type", b"application/json"),
            ("ce_id", b"%b-%d" % (run, number)),
        ]  # fmt: skip
        while True:
            try:
                producer.produce(
                    settings.named(RAW), msgspec.json.encode(value), f"CUST{number:07}".encode(), headers=headers
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60):
        raise SystemExit("Kafka did not take the records within 60 s")


@contextmanager
def running(contender: str, settings: Settings) -> Iterator[psutil.Process]:
    """The contender in a process of its own."""
    arguments = ["cli", "normalizer"] if contender == "ours" else ["benchmarks.faust_stage", contender]
    environment = os.environ | {
        "HEADRACE_NAMESPACE": settings.namespace,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, stdout=sys.stderr)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


@until_settled
def _end(consumer: Consumer, partition: TopicPartition) -> int:
    """The partition's end. A topic that was only just made may have no leader for a moment."""
    ends: tuple[int, int] = consumer.get_watermark_offsets(partition)
    return ends[1]


def follow(contender: str, settings: Settings, process: psutil.Process, records: int) -> Figures:
    """Watch the outputs arrive."""
    topics = [settings.named(CLEAN), settings.named(FAILURES_TOPIC)]
    started, first, before, peak, cpu_before = time.monotonic(), None, 0, 0, 0.0
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "benchmark"})
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(settings.topic_partitions)]
    while True:
        done = sum(_end(consumer, partition) for partition in partitions)
        now = time.monotonic()
        peak = max(peak, process.memory_info().rss)
        if first is None and done:
            first, before, cpu_before = now, done, sum(process.cpu_times()[:2])
        if first is not None and done >= records:
            seconds = now - first
            cpu = (sum(process.cpu_times()[:2]) - cpu_before) / (records - before) * 1e6
            rate = round((records - before) / seconds)
            return Figures(contender, records, round(seconds, 2), rate, round(cpu, 1), peak / 1e6)
        if now - started > TIMEOUT_SECONDS:
            raise SystemExit(f"{contender}: {done} of {records} records within {TIMEOUT_SECONDS:g} s")
        time.sleep(0.05)


def kept(done: list[Figures]) -> dict[str, Any]:
    """All rounds as they are kept. A ratio is the median of the rounds' own: contenders of one round had one time."""
    names = list(dict.fromkeys(one.contender for one in done))
    rates = {name: [one.records_per_second for one in done if one.contender == name] for name in names}
    rows = {
        name: {
            "records_per_second": spread(rates[name], 0),
            "cpu_us": spread(one.cpu_microseconds for one in done if one.contender == name),
            "peak_megabytes": round(max(one.peak_megabytes for one in done if one.contender == name)),
        }
        for name in names
    }
    ratios = {
        f"ours_to_{name}": round(median(a / b for a, b in zip(rates["ours"], rates[name], strict=True)), 2)
        for name in names
        if name != "ours"
    }
    return {"rounds": len(rates["ours"]), "rows": rows, **ratios}


def speed_targets(figures: dict[str, Figures]) -> list[dict[str, Any]]:
    """Ours against the others."""
    ours = figures["ours"].records_per_second
    of_stock, of_bare = ours / figures["stock"].records_per_second, ours / figures["bare"].records_per_second
    return [
        target("ours / stock Faust", of_stock, f"at least {MINIMUM_OF_STOCK:g}", of_stock >= MINIMUM_OF_STOCK),
        target("ours / bare loop", of_bare, f"at least {MINIMUM_OF_BARE:g}", of_bare >= MINIMUM_OF_BARE),
    ]


def memory_target(ours: Figures) -> list[dict[str, Any]]:
    """Peak resident memory."""
    reached = ours.peak_megabytes < MAXIMUM_MEGABYTES
    return [target("peak memory, MB", ours.peak_megabytes, f"under {MAXIMUM_MEGABYTES:g}", reached)]


def target(name: str, value: float, wanted: str, reached: bool) -> dict[str, Any]:
    return {"name": name, "value": round(value, 2), "wanted": wanted, "reached": reached}


def show(figures: list[Figures], targets: list[dict[str, Any]]) -> None:
    """The tables for people."""
    console = Console()
    table = Table(
        "contender", "records", "seconds", "records/s", "CPU µs/record", "peak MB", title="Raw to clean, one process"
    )
    for f in figures:
        row = f.records, f.seconds, f.records_per_second, f.cpu_microseconds, round(f.peak_megabytes)
        table.add_row(f.contender, *(f"{value:,}" for value in row))
    console.print(table)
    for t in targets:
        console.print(f"{t['name']}: {t['value']} ({t['wanted']}): {'reached' if t['reached'] else 'MISSED'}")


if __name__ == "__main__":
    cli()
