"""The whole of it on the running stack: from the raw topic to every store, and from a raw record to its change event.

    HEADRACE_HOME=/tmp/bench .venv/bin/headrace up --free-ports --no-ingest    # a stack of its own: it is filled
    HEADRACE_HOME=/tmp/bench python -m benchmarks.whole                        # a table, and benchmarks/results.json
    HEADRACE_HOME=/tmp/bench python -m benchmarks.whole --records 1000000 --rounds 1 --json

The latency of the first 15 s after the start comes first, so start the stack just before. Then each round publishes
new customers as fast as Kafka takes them and waits until Postgres has every row and no group has anything left to
read; the clock runs from the first record that was sent. All is counted afterwards, in Postgres, the landing table and
Elasticsearch. On a shared machine only ratios and CPU per record mean something.
"""

import asyncio
import threading
import time
import uuid
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import asyncpg
import httpx
import msgspec
import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.customers import customers
from benchmarks.results import RESULTS, record
from benchmarks.running_stack import Cost, measured
from monitoring.lag import read_lag
from runtime.kafka.clients import connection_config, producer_config
from runtime.settings import Settings, load_settings
from schemas.events import HEADER_KIND, HEADER_SOURCE
from schemas.registry import dataset_named
from stores.search_index import alias_name

CUSTOMERS = dataset_named("customers")
HEADERS: list[tuple[str, str | bytes | None]] = [(HEADER_SOURCE, b"benchmark"), (HEADER_KIND, b"api")]
PATIENCE_SECONDS = 1800.0
WATCH_SECONDS = 0.1


class Drain(NamedTuple):
    """One round: so many records from the raw topic into every store."""

    records: int
    produced_seconds: float
    postgres_seconds: float
    """From the first record sent until Postgres had every row."""
    all_seconds: float
    """The same until no group had anything left to read."""
    costs: dict[str, Cost]

    @property
    def cpu_us(self) -> float:
        """CPU per record of all processes of the stack, in µs."""
        return sum(cost.cpu_seconds for cost in self.costs.values()) / self.records * 1e6


class Latency(NamedTuple):
    """Milliseconds from sending a raw record until its change event, written after the commit, has been read."""

    rate: int
    p50: float
    p99: float
    worst: float


def main(
    records: Annotated[int, typer.Option(min=1_000, help="Customers in each round.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often; the median counts, and the range is shown.")] = 3,
    rate: Annotated[int, typer.Option(min=1, help="Records per second while latency is measured.")] = 1_000,
    seconds: Annotated[int, typer.Option(min=1, help="How long latency is measured, cold and warm.")] = 15,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the running stack, print, and keep the figures."""
    settings = load_settings()
    cold = latency(settings, rate, seconds)
    drains = [drain(settings, records) for _ in range(rounds)]
    warm = latency(settings, rate, seconds)
    figures = as_figures(drains, cold, warm)
    record("whole", figures, results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
    else:
        show(drains, cold, warm)


def drain(settings: Settings, count: int) -> Drain:
    """Publish so many new customers and wait until every store has them. Raises TimeoutError, RuntimeError if some
    store has fewer in the end.
    """
    tag = f"b{uuid.uuid4().hex[:6]}-"
    ready = list(customers(count, tag))
    with measured(settings) as costs:
        began = time.monotonic()
        producer = Producer({**producer_config(settings), "queue.buffering.max.messages": 2_000_000})
        for key, value in ready:
            _produce(settings, producer, key, value)
        producer.flush()
        produced = time.monotonic() - began
        postgres, everything = asyncio.run(_until_stored(settings, tag, count, began))
    missing = asyncio.run(_missing(settings, tag, count))
    if missing:
        raise RuntimeError(f"not everywhere are the {count:,} customers that were sent: {missing}")
    return Drain(count, produced, postgres, everything, costs)


def latency(settings: Settings, rate: int, seconds: int) -> Latency:
    """Send customers at that rate and read their change events. Raises TimeoutError if some do not come.

    The producer has librdkafka's own settings, as other people's have: ours sends one request at a time, so that
    records gather while the broker is slow, which is kinder to it.
    """
    tag = f"l{uuid.uuid4().hex[:6]}-"
    sent: dict[str, float] = {}
    taken: list[float] = []
    consumer = _at_the_end_of(settings, settings.named(CUSTOMERS.changed_topic))
    producer = Producer(connection_config(settings))
    producer.list_topics(timeout=10)  # connected: its first record would lie here for half a second

    def send() -> None:
        began = time.monotonic()
        for number, (key, value) in enumerate(customers(rate * seconds, tag)):
            if (early := began + number / rate - time.monotonic()) > 0:
                time.sleep(early)
            sent[key.decode()] = time.monotonic()
            _produce(settings, producer, key, value)
        producer.flush()

    sending = threading.Thread(target=send)
    sending.start()
    until = time.monotonic() + seconds + 60
    while len(taken) < rate * seconds:
        if time.monotonic() > until:
            raise TimeoutError(f"{rate * seconds - len(taken):,} of {rate * seconds:,} change events did not come")
        messages = consumer.consume(1, 0.1) + consumer.consume(1_000, 0)  # what has come, without waiting for more
        now = [(message.key() or b"").decode() for message in messages]
        taken += [(time.monotonic() - sent[key]) * 1000 for key in now if key in sent]
    sending.join()
    consumer.close()
    taken.sort()
    return Latency(rate, *(round(taken[int((len(taken) - 1) * share)], 1) for share in (0.5, 0.99, 1)))


def _produce(settings: Settings, producer: Producer, key: bytes, value: bytes) -> None:
    while True:
        try:
            producer.produce(settings.named(CUSTOMERS.raw_topic), value, key, headers=HEADERS)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _at_the_end_of(settings: Settings, topic: str) -> Consumer:
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "benchmark"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    places = [TopicPartition(topic, partition) for partition in partitions]
    consumer.assign([TopicPartition(topic, p.partition, consumer.get_watermark_offsets(p)[1]) for p in places])
    return consumer


async def _until_stored(settings: Settings, tag: str, count: int, began: float) -> tuple[float, float]:
    connection = await _connect(settings)
    postgres = None
    try:
        while time.monotonic() - began < PATIENCE_SECONDS:
            now = time.monotonic() - began
            if postgres is None:
                if await _rows(connection, tag) >= count:
                    postgres = now
            elif not any(row.lag for row in await read_lag(settings)):
                return postgres, now
            await asyncio.sleep(WATCH_SECONDS)
    finally:
        await connection.close()
    raise TimeoutError(f"not all of {count:,} customers were stored within {PATIENCE_SECONDS:g} s")


async def _missing(settings: Settings, tag: str, count: int) -> dict[str, int]:
    connection = await _connect(settings)
    try:
        landed = "SELECT count(*) FROM raw_api_data WHERE starts_with(key, $1)"
        found = {"customers": await _rows(connection, tag), "landing": await connection.fetchval(landed, tag)}
    finally:
        await connection.close()
    if "elasticsearch" not in settings.absent_stores:
        async with httpx.AsyncClient(base_url=str(settings.elasticsearch_url), timeout=60) as client:
            index = alias_name(CUSTOMERS, settings)
            await client.post(f"/{index}/_refresh")
            query = {"query": {"prefix": {"customer_id": tag}}}
            found["elasticsearch"] = (await client.post(f"/{index}/_count", json=query)).json()["count"]
    return {store: number for store, number in found.items() if number != count}


async def _connect(settings: Settings) -> Any:
    connect: Any = asyncpg.connect
    return await connect(settings.plain_database_url)


async def _rows(connection: Any, tag: str) -> int:
    query = "SELECT count(*) FROM customers WHERE customer_id >= $1 AND customer_id < $1 || 'z'"
    count: int = await connection.fetchval(query, tag)
    return count


def as_figures(drains: list[Drain], cold: Latency, warm: Latency) -> dict[str, Any]:
    """The figures for scripts: medians, with the lowest and the highest of the rounds."""
    rates = sorted(round(one.records / one.all_seconds) for one in drains)
    return {
        "records": drains[0].records,
        "rounds": len(drains),
        "records_per_second": median(rates),
        "records_per_second_range": [rates[0], rates[-1]],
        "postgres_records_per_second": round(median(one.records / one.postgres_seconds for one in drains)),
        "cpu_us_per_record": round(median(one.cpu_us for one in drains), 1),
        "cpu_us_per_record_range": [round(select(one.cpu_us for one in drains), 1) for select in (min, max)],
        "cpu_us_per_record_by_process": {
            name: round(median(one.costs[name].cpu_seconds / one.records * 1e6 for one in drains), 1)
            for name in drains[0].costs
        },
        "peak_megabytes": {
            name: round(max(one.costs[name].peak_bytes for one in drains) / 1e6) for name in drains[0].costs
        },
        "latency_cold_ms": cold._asdict(),
        "latency_warm_ms": warm._asdict(),
    }


def show(drains: list[Drain], cold: Latency, warm: Latency) -> None:
    """The tables for people."""
    figures, console = as_figures(drains, cold, warm), Console()
    low, high = figures["records_per_second_range"]
    console.print(
        f"{figures['records']:,} customers, {figures['rounds']} rounds: {figures['records_per_second']:,.0f} records/s"
        f" into every store ({low:,} to {high:,}), {figures['postgres_records_per_second']:,} into Postgres,"
        f" {figures['cpu_us_per_record']:g} µs CPU per record"
    )
    table = Table("process", "CPU µs/record", "peak MB")
    for name, cpu in sorted(figures["cpu_us_per_record_by_process"].items(), key=lambda item: -item[1]):
        table.add_row(name, f"{cpu:g}", f"{figures['peak_megabytes'][name]:,}")
    console.print(table)
    waits = Table("raw record to change event", "records/s", "p50 ms", "p99 ms", "worst ms")
    for name, one in (("first seconds", cold), ("warm", warm)):
        waits.add_row(name, f"{one.rate:,}", f"{one.p50:g}", f"{one.p99:g}", f"{one.worst:g}")
    console.print(waits)


if __name__ == "__main__":
    typer.run(main)
