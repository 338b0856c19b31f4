"""Drives the Postgres sink's write step directly: real Postgres, batches made by hand, events caught, not sent."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from runtime.kafka.confirmed import Outgoing
from runtime.settings import Settings
from schemas.events import ChangeEvent, CleanRecord, FailedRecord, Origin
from schemas.registry import dataset_named, ingested_datasets
from sinks.postgres.arrivals import decode_arrival
from sinks.postgres.batch import Batch
from sinks.postgres.sink import PostgresSink
from sinks.postgres.statements import create_stage

CUSTOMERS = dataset_named("customers")
ORDERS = dataset_named("orders")
RECORDS = dataset_named("records")


def customer(key: str, offset: int, *, partition: int = 0, timestamp: int | None = None, **fields: Any) -> CleanRecord:
    data: dict[str, Any] = {
        "customer_id": key,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": f"{key.lower()}@example.org",
        "phone": None,
        "address": None,
        "date_of_birth": "1815-12-10",
        "account_balance": "12.50",
    }
    origin = Origin("customers.raw", partition, offset, 1_000 + offset if timestamp is None else timestamp)
    return CleanRecord(key, origin, msgspec.Raw(msgspec.json.encode(data | fields)), source="api", kind="api")


def record(source_id: str, offset: int, **fields: Any) -> CleanRecord:
    data = {"source": "csv", "source_name": "titanic", "source_id": source_id, "name": "Passenger", "value": "7.2500"}
    origin = Origin("records.raw", 0, offset, 1_000 + offset)
    raw = msgspec.Raw(msgspec.json.encode(data | {"description": None} | fields))
    return CleanRecord(f"titanic:{source_id}", origin, raw, source="titanic", kind="csv")


def order(key: str, offset: int, *, partition: int = 0, timestamp: int | None = None, **fields: Any) -> CleanRecord:
    data: dict[str, Any] = {
        "order_id": key,
        "customer_id": "CUST001",
        "product": "Pen",
        "quantity": 1,
        "price": "1.99",
        "order_date": "2024-01-31",
    }
    origin = Origin("orders.raw", partition, offset, 1_000 + offset if timestamp is None else timestamp)
    return CleanRecord(key, origin, msgspec.Raw(msgspec.json.encode(data | fields)), source="orders", kind="csv")


class Driver:
    """Writes batches and looks at what they left."""

    def __init__(self, settings: Settings, connection: Any) -> None:
        self.settings = settings
        self.sink = PostgresSink(settings)
        self.connection = connection

    async def write(self, *items: CleanRecord | FailedRecord) -> list[Outgoing]:
        """Store a batch, as the sink does between poll and publish; returns what it would publish."""
        return await self.sink.store(self.connection, batch_of(items))

    async def row(self, key: str) -> Any:
        return await self.connection.fetchrow("SELECT * FROM customers WHERE customer_id = $1", key)

    async def counts(self) -> dict[str, int]:
        """Outcomes over all partitions, zeros left out."""
        row = await self.connection.fetchrow(
            "SELECT sum(inserted)::int inserted, sum(updated)::int updated, sum(unchanged)::int unchanged,"
            " sum(superseded)::int superseded, sum(deleted)::int deleted, sum(failed)::int failed, sum(held)::int held"
            " FROM coverage"
        )
        return {name: count for name, count in row.items() if count}

    async def covered(self, partition: int = 0, topic: str = "customers.raw") -> str:
        return str(
            await self.connection.fetchval(
                "SELECT ranges::text FROM coverage WHERE topic = $1 AND partition = $2", topic, partition
            )
        )

    async def failures(self) -> list[tuple[str, str]]:
        rows = await self.connection.fetch('SELECT key, reason FROM ingest_failures ORDER BY "offset"')
        return [(row["key"] or "", row["reason"]) for row in rows]


def batch_of(items: Sequence[CleanRecord | FailedRecord]) -> Batch:
    batch = Batch()
    for item in items:
        if isinstance(item, FailedRecord):
            batch.reported.append(item)
        else:
            dataset = next(one for one in ingested_datasets() if item.origin.topic.endswith(one.raw_topic))
            group = batch.reprocessed if item.reprocess else batch.arrivals
            group.setdefault(dataset, []).append(decode_arrival(dataset, msgspec.json.encode(item)))
    return batch


def changes(outgoing: Sequence[Outgoing]) -> dict[str, ChangeEvent]:
    """The change events among what is to be published, by key."""
    return {
        event.key: event
        for event in (
            msgspec.json.decode(message.value or b"", type=ChangeEvent)
            for message in outgoing
            if message.topic.endswith(".changed")
        )
    }


def failures(outgoing: Sequence[Outgoing]) -> list[FailedRecord]:
    return [
        msgspec.json.decode(message.value or b"", type=FailedRecord)
        for message in outgoing
        if message.topic.endswith("failures")
    ]


@asynccontextmanager
async def driver(settings: Settings) -> AsyncIterator[Driver]:
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)
    try:
        for dataset in ingested_datasets():
            await connection.execute(create_stage(dataset))
        yield Driver(settings, connection)
    finally:
        await connection.close()


def failed(
    key: str | None, offset: int, payload: bytes, dataset: str = "customers", message: str = "m", **more: Any
) -> FailedRecord:
    """A failure that the normalizer reports."""
    origin = Origin(f"{dataset}.raw", 0, offset, 1_000 + offset)
    return FailedRecord(dataset, "normalizer", "required", message, origin, 5_000, key=key, payload=payload, **more)
