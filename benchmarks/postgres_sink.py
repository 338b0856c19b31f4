"""How much of a bare COPY and of a bare loop the Postgres sink keeps: real Kafka and Postgres, same rows, same table.

    python -m benchmarks.postgres_sink --records 200000 --rounds 3 [--json]

Needs a running Kafka (its address from the settings; `headrace env`), where it works in topics of its own, which it
drops, and starts a Postgres of its own for each round. Four contenders in one process, all into `customers` (primary
key and unique e-mail): COPY of lines made before the clock starts; the bare loop that one would write first (consume,
decode, COPY, commit; no merge, no versions, no coverage, no events); the sink inserting the same customers; and the
sink updating each of them, until its offsets are committed, which comes after rows, coverage and confirmed events. CPU
is this process's alone, per row.
Ends with 1 if the sink inserts less than half of what the bare loop does.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import asyncpg
import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from benchmarks import results
from local_stack.servers import start_servers
from runtime.kafka.clients import consumer_config, producer_config
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings, load_settings
from schemas.events import CleanRecord, Origin
from schemas.registry import dataset_named
from schemas.sinks import sink_named
from schemas.topics import all_topics
from sinks.lifecycle import run_in_loop
from sinks.postgres.arrivals import decode_arrival
from sinks.postgres.sink import PostgresSink
from sinks.postgres.statements import staged_columns
from sinks.runner import Runner
from stores.migrate import migrate

CUSTOMERS = dataset_named("customers")
COLUMNS = [*staged_columns(CUSTOMERS)[1:], "version"]
ROWS_A_COPY = 5000

TARGET = 0.5
"""The share of the bare loop's rows per second that the sink's inserts must reach."""

WATCH_SECONDS = 0.05

TITLES = {
    "copy": "COPY of ready-made lines",
    "loop": "bare loop, Kafka to COPY",
    "insert": "sink, Kafka to insert",
    "update": "sink, Kafka to update",
}


class Rate(NamedTuple):
    """What one contender reached: rows per second, and CPU time of this process per row in µs."""

    rows_per_second: float
    cpu_us: float


class Stopwatch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def rate(self, rows: float) -> Rate:
        cpu = time.process_time() - self._cpu
        return Rate(rows / (time.perf_counter() - self._began), cpu / rows * 1e6)


def clean_record(settings: Settings, number: int, first_offset: int, name: str) -> CleanRecord:
    partition = number % settings.topic_partitions
    offset = first_offset + number // settings.topic_partitions
    data = {
        "customer_id": f"{uuid.uuid5(uuid.NAMESPACE_OID, str(number))}",
        "first_name": name,
        "last_name": f"Lastname {number % 977}",
        "email": f"customer.{number}@example.org",
        "phone": f"+1555{number:07}",
        "address": f"{number % 400} Long Street, 12345 Some Town",
        "date_of_birth": "1990-01-31",
        "account_balance": f"{number % 100_000}.25",
    }
    origin = Origin(settings.named(CUSTOMERS.raw_topic), partition, offset, 1_700_000_000_000 + offset)
    return CleanRecord(str(data["customer_id"]), origin, msgspec.Raw(msgspec.json.encode(data)), "bench", "api", name)


def publish(settings: Settings, records: list[CleanRecord]) -> None:
    producer = Producer(producer_config(settings))
    for record in records:
        while True:
            try:
                producer.produce(
                    settings.named(CUSTOMERS.clean_topic),
                    msgspec.json.encode(record),
                    record.key,
                    partition=record.origin.partition,
                )
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


async def copy_ready_made(settings: Settings, records: list[CleanRecord]) -> Rate:
    """COPY of lines that were made before the clock started; no Kafka."""
    lines = [_line(msgspec.json.encode(record)).encode() for record in records]
    chunks = [b"".join(lines[start : start + ROWS_A_COPY]) for start in range(0, len(lines), ROWS_A_COPY)]
    async with _emptied_afterwards(settings) as connection:
        stopwatch = Stopwatch()
        for chunk in chunks:
            await connection.copy_to_table("customers", source=_chunk(chunk), columns=COLUMNS, format="text")
        return stopwatch.rate(len(records))


async def bare_loop(settings: Settings, count: int) -> Rate:
    """Consume, decode, COPY, commit; with the sink's own decoder and batch size.

    From the first batch on: joining the group is not what is measured.
    """
    consumer = Consumer(consumer_config(settings, "bare-loop"))
    consumer.subscribe([settings.named(CUSTOMERS.clean_topic)])
    stopwatch, first, done = None, 0, 0
    async with _emptied_afterwards(settings) as connection:
        while done < count:
            messages = consumer.consume(settings.sink_batch_records, settings.sink_batch_wait_ms / 1000)
            if not messages:
                continue
            data = "".join([_line(message.value()) for message in messages]).encode()
            await connection.copy_to_table("customers", source=_chunk(data), columns=COLUMNS, format="text")
            ends: dict[Any, Any] = {(m.topic(), m.partition()): m.offset() for m in messages}
            offsets = [TopicPartition(topic, partition, last + 1) for (topic, partition), last in ends.items()]
            consumer.commit(offsets=offsets, asynchronous=False)
            done += len(messages)
            if stopwatch is None:
                stopwatch, first = Stopwatch(), done
        if stopwatch is None or done == first:
            raise ValueError(f"{count} records are one batch: nothing is left to measure; take more")
        rate = stopwatch.rate(done - first)
    consumer.close()
    return rate


def _line(value: bytes | None) -> str:
    arrival = decode_arrival(CUSTOMERS, value)
    origin = arrival.origin
    return f"{arrival.row}\t{origin.partition}\t{origin.offset}\t{origin.timestamp}\t1\n"


@asynccontextmanager
async def _emptied_afterwards(settings: Settings) -> AsyncIterator[Any]:
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)
    try:
        yield connection
        await connection.execute("TRUNCATE customers")
        # The local stack's role may not: what the last one wrote is then flushed in the next one's time.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _chunk(data: bytes) -> Any:
    yield data


async def run_sink(settings: Settings, total: int) -> Rate:
    """Run the sink until the offsets of so many records are committed; the clock starts when its first batch is."""
    watcher = Consumer(consumer_config(settings, sink_named("postgres").group))  # asks about the group, never joins it
    topic = settings.named(CUSTOMERS.clean_topic)
    partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]

    async def committed() -> int:
        return sum(max(place.offset, 0) for place in await asyncio.to_thread(watcher.committed, partitions))

    runner = Runner(PostgresSink(settings), settings)
    first = start_at = await committed()
    running = asyncio.create_task(runner.run())
    stopwatch = Stopwatch()
    while (now := await committed()) < total:
        if running.done():
            await running
        if start_at == first and now > first:
            stopwatch, start_at = Stopwatch(), now
        await asyncio.sleep(WATCH_SECONDS)
    if start_at == first:
        raise ValueError("the records are one batch: nothing is left to measure; take more")
    rate = stopwatch.rate(now - start_at)
    runner.stop()
    await running
    watcher.close()
    return rate


async def measure(settings: Settings, count: int) -> dict[str, Rate]:
    inserts = [clean_record(settings, number, 0, "Ada") for number in range(count)]
    copy = await copy_ready_made(settings, inserts)
    publish(settings, inserts)
    loop = await bare_loop(settings, count)
    insert = await run_sink(settings, count)
    per_partition = -(-count // settings.topic_partitions)
    publish(settings, [clean_record(settings, number, per_partition, "Grace") for number in range(count)])
    update = await run_sink(settings, 2 * count)
    return {"copy": copy, "loop": loop, "insert": insert, "update": update}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often; medians count")
    parser.add_argument(
        "--results", type=Path, default=results.RESULTS, help="the file that keeps the figures of all benchmarks"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    figures = as_figures(arguments.records, [one_round(arguments.records) for _ in range(arguments.rounds)])
    results.record("postgres_sink", figures, arguments.results)
    print(json.dumps(figures) if arguments.json else as_table(figures))
    if figures["insert_to_loop"] < TARGET:
        sys.exit(f"missed: the sink inserts less than {TARGET} of the bare loop's rows")


def one_round(count: int) -> dict[str, Rate]:
    """All contenders once, in a Postgres and in topics of their own."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as home,
        start_servers(Path(home), {"postgres"}) as servers,
    ):
        url = SecretStr(servers.addresses["DATABASE_URL"])
        settings = load_settings(headrace_namespace=name, database_url=url)
        if settings.namespace != name:  # the topics of this namespace are deleted in the end
            raise RuntimeError(f"the benchmark would work in namespace {settings.namespace!r} instead of its own")
        return _measured(settings, count)


def _measured(settings: Settings, count: int) -> dict[str, Rate]:
    try:
        migrate(settings)
        ensure_topics(settings)
        return run_in_loop(measure(settings, count))
    finally:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
        for deletion in admin.delete_topics([settings.named(topic.name) for topic in all_topics()]).values():
            deletion.result()


def as_figures(count: int, rounds: list[dict[str, Rate]]) -> dict[str, Any]:
    """Medians with the lowest and the highest. A ratio is the median of the rounds' own."""
    rows = {
        TITLES[name]: {
            "rows_per_second": results.spread((one[name].rows_per_second for one in rounds), 0),
            "cpu_us": results.spread(one[name].cpu_us for one in rounds),
        }
        for name in rounds[0]
    }
    ratios = {
        f"{one}_to_{other}": round(median(r[one].rows_per_second / r[other].rows_per_second for r in rounds), 2)
        for other in ("copy", "loop")
        for one in ("insert", "update")
    }
    return {"records": count, "rounds": len(rounds), "rows": rows, **ratios}


def as_table(figures: dict[str, Any]) -> str:
    lines = [f"{'':30}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'CPU µs':>10}"]
    for title, row in figures["rows"].items():
        rates = "".join(f"{row['rows_per_second'][key]:>10,.0f}" for key in ("median", "low", "high"))
        lines.append(f"{title:30}{rates}{row['cpu_us']['median']:>10.1f}")
    names = ("insert_to_loop", "update_to_loop", "insert_to_copy", "update_to_copy")
    return "\n".join([*lines, *(f"{name.replace('_', ' ')}: {figures[name]}" for name in names)])


if __name__ == "__main__":
    main()
