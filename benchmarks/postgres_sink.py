"""How much of a bare COPY the Postgres sink keeps: real Kafka, real Postgres, the same rows, the same table.

    python benchmarks/postgres_sink.py --records 200000 [--json]

Needs a running Kafka and Postgres (addresses from the settings; `headrace env`). Works in a database and in topics of
its own, which it drops. Four runs in one process, all into `customers` (primary key and unique e-mail): COPY of lines
made before the clock starts; the bare loop that one would write first (consume, decode, COPY, commit; no merge, no
versions, no books, no events); the sink inserting the same customers; and the sink updating each of them.
"""

import argparse
import asyncio
import json
import time
import uuid
from typing import Any

import asyncpg
import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from runtime.kafka_clients import consumer_config, producer_config
from runtime.migrate import migrate
from runtime.settings import Settings, load_settings
from runtime.topic_admin import ensure_topics
from schemas.events import CleanRecord, Origin
from schemas.registry import dataset_named
from schemas.topics import all_topics
from sinks.postgres.arrivals import decode_arrival
from sinks.postgres.sink import PostgresSink
from sinks.postgres.statements import statements
from sinks.runner import Runner, run_in_loop

CUSTOMERS = dataset_named("customers")
ROWS_A_COPY = 5000


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
    return CleanRecord(str(data["customer_id"]), origin, msgspec.Raw(msgspec.json.encode(data)), "bench", "api")


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


async def bare_copy(settings: Settings, records: list[CleanRecord]) -> float:
    """Rows per second; the lines are made before the clock starts."""
    columns = [*statements(CUSTOMERS).staged_columns[1:], "version"]
    lines = []
    for record in records:
        arrival = decode_arrival(CUSTOMERS, msgspec.json.encode(record))
        origin = arrival.origin
        lines.append(f"{arrival.row}\t{origin.partition}\t{origin.offset}\t{origin.timestamp}\t1\n".encode())
    chunks = [b"".join(lines[start : start + ROWS_A_COPY]) for start in range(0, len(lines), ROWS_A_COPY)]
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)

    started = time.perf_counter()
    for chunk in chunks:
        await connection.copy_to_table("customers", source=_chunk(chunk), columns=columns, format="text")
    seconds = time.perf_counter() - started
    await connection.execute("TRUNCATE customers")
    await connection.execute("CHECKPOINT")
    await connection.close()
    return len(records) / seconds


async def bare_loop(settings: Settings, count: int) -> float:
    """Rows per second, from the first batch on: joining the group is not what is measured."""
    columns = [*statements(CUSTOMERS).staged_columns[1:], "version"]
    consumer = Consumer(consumer_config(settings, "bare-loop"))
    consumer.subscribe([settings.named(CUSTOMERS.clean_topic)])
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)
    first, started, done = 0, 0.0, 0
    while done < count:
        messages = consumer.consume(settings.sink_batch_records, 0.05)
        if not messages:
            continue
        lines = []
        for message in messages:
            arrival = decode_arrival(CUSTOMERS, message.value())
            origin = arrival.origin
            lines.append(f"{arrival.row}\t{origin.partition}\t{origin.offset}\t{origin.timestamp}\t1\n")
        await connection.copy_to_table(
            "customers", source=_chunk("".join(lines).encode()), columns=columns, format="text"
        )
        ends: dict[Any, Any] = {(m.topic(), m.partition()): m.offset() for m in messages}
        offsets = [TopicPartition(topic, partition, last + 1) for (topic, partition), last in ends.items()]
        consumer.commit(offsets=offsets, asynchronous=False)
        done += len(messages)
        if not started:
            first, started = done, time.perf_counter()
    seconds = time.perf_counter() - started
    consumer.close()
    await connection.execute("TRUNCATE customers")
    await connection.execute("CHECKPOINT")
    await connection.close()
    return (done - first) / seconds


async def _chunk(data: bytes) -> Any:
    yield data


async def run_sink(settings: Settings, covered: int) -> float:
    """Seconds from the sink's first poll with an assignment until so many raw offsets are covered."""
    runner = Runner(PostgresSink(settings), settings)
    running = asyncio.create_task(runner.run())
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)
    query = "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM coverage, unnest(ranges) r"
    start_at = await connection.fetchval(query)
    started = None
    while (now := await connection.fetchval(query)) < covered:
        if running.done():
            await running
        if started is None and now > start_at:
            # The first batch is left out with its time: joining the group is not what is measured.
            started, start_at = time.perf_counter(), now
        await asyncio.sleep(0.01)
    seconds: float = time.perf_counter() - (started or 0)
    runner.stop()
    await running
    await connection.close()
    return float(covered - start_at) / seconds


async def measure(settings: Settings, count: int) -> dict[str, float]:
    inserts = [clean_record(settings, number, 0, "Ada") for number in range(count)]
    copy = await bare_copy(settings, inserts)
    publish(settings, inserts)
    loop = await bare_loop(settings, count)
    insert = await run_sink(settings, count)
    per_partition = -(-count // settings.topic_partitions)
    publish(settings, [clean_record(settings, number, per_partition, "Grace") for number in range(count)])
    update = await run_sink(settings, 2 * count)
    return {
        "records": count,
        "copy_rows_per_second": round(copy),
        "loop_rows_per_second": round(loop),
        "insert_rows_per_second": round(insert),
        "update_rows_per_second": round(update),
        "insert_to_copy": round(insert / copy, 2),
        "update_to_copy": round(update / copy, 2),
        "insert_to_loop": round(insert / loop, 2),
        "update_to_loop": round(update / loop, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    base = load_settings()
    name = f"bench-{uuid.uuid4().hex[:8]}"
    url = f"{base.plain_database_url.rpartition('/')[0]}/{name}"
    settings = load_settings(headrace_namespace=name, database_url=SecretStr(url))
    if settings.namespace != name:  # the topics of this namespace are deleted in the end
        raise RuntimeError(f"the benchmark would work in namespace {settings.namespace!r} instead of its own")
    asyncio.run(_database(base, f'CREATE DATABASE "{name}"'))
    try:
        migrate(settings)
        ensure_topics(settings)
        result = run_in_loop(measure(settings, arguments.records))
    finally:
        asyncio.run(_database(base, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        admin = AdminClient({"bootstrap.servers": base.kafka_bootstrap_servers})
        for deletion in admin.delete_topics([settings.named(topic.name) for topic in all_topics()]).values():
            deletion.result()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{'':34}{'rows/s':>10}{'of COPY':>10}{'of loop':>10}")
    copy, loop = result["copy_rows_per_second"], result["loop_rows_per_second"]
    rows = {
        "COPY of ready-made lines": copy,
        "bare loop, Kafka to COPY": loop,
        "sink, Kafka to insert": result["insert_rows_per_second"],
        "sink, Kafka to update": result["update_rows_per_second"],
    }
    for name, rate in rows.items():
        print(f"{name:34}{rate:>10,}{rate / copy:>10.2f}{rate / loop:>10.2f}")


async def _database(base: Settings, statement: str) -> None:
    connect: Any = asyncpg.connect
    connection = await connect(base.plain_database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
