"""What bare programs bring into the sink's table: the baselines that `benchmarks.postgres_sink` is compared with."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import asyncpg
import msgspec
from confluent_kafka import Consumer, TopicPartition

from runtime.kafka.clients import consumer_config
from runtime.settings import Settings
from schemas.events import CleanRecord
from schemas.registry import dataset_named
from sinks.postgres.arrivals import decode_arrival
from sinks.postgres.statements import staged_columns

CUSTOMERS = dataset_named("customers")
COLUMNS = [*staged_columns(CUSTOMERS)[1:], "version"]
ROWS_A_COPY = 5000


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
