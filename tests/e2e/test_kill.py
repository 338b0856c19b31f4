"""kill -9 of every worker under load: nothing is lost, nothing is stored twice, and every group commits to the end."""

import asyncio
import os
import threading
from pathlib import Path

import msgspec
from confluent_kafka import Producer
from sqlalchemy.ext.asyncio import create_async_engine

from monitoring.audit import PartitionAudit, audit
from monitoring.lag import read_lag
from runtime.kafka_clients import producer_config
from runtime.settings import Settings
from tests.e2e.stores import documents, value
from tests.processes import WORKERS, Pipeline
from tests.waiting import eventually

RECORDS = int(os.environ.get("HEADRACE_KILL_RECORDS", "200000"))
KILLS_PER_WORKER = 2


def customer(number: int) -> bytes:
    return msgspec.json.encode(
        {
            "customer_id": f"K{number:07}",
            "first_name": "Kay",
            "last_name": f"Number {number}",
            "email": f"k{number}@example.org",
            "phone": "+1 555 010 2030",
            "account_balance": number / 100,
        }
    )


def load(settings: Settings) -> None:
    producer = Producer(producer_config(settings))
    topic = settings.named("customers.raw")
    for number in range(RECORDS):
        while True:
            try:
                producer.produce(topic, key=f"K{number:07}".encode(), value=customer(number))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def covered(settings: Settings) -> int:
    return int(
        value(
            settings,
            "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM coverage, unnest(ranges) AS r WHERE topic = $1",
            settings.named("customers.raw"),
        )
    )


def test_every_record_is_stored_exactly_once_whatever_worker_is_killed(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    with Pipeline(settings, tmp_path) as pipeline:
        loader = threading.Thread(target=load, args=(settings,))
        loader.start()
        for _ in range(KILLS_PER_WORKER):
            for role in WORKERS:
                before = covered(settings)
                pipeline[role].kill()
                pipeline[role].start()
                if before < RECORDS:
                    eventually(lambda seen=before: covered(settings) > seen, what=f"progress after {role} was killed")  # type: ignore[misc]
        loader.join()
        eventually(lambda: covered(settings) == RECORDS, what="every record has an outcome", within=180)

        assert value(settings, "SELECT count(*) FROM customers") == RECORDS
        assert value(settings, "SELECT count(*) FROM customers WHERE updated_at IS NOT NULL") == 0
        assert value(settings, "SELECT sum(inserted) FROM coverage") == RECORDS
        assert value(settings, "SELECT sum(updated + unchanged + superseded + deleted + failed) FROM coverage") == 0
        eventually(lambda: documents(settings, "customers") == RECORDS, what="all are indexed", within=180)
        landed = "SELECT count(*) FROM raw_api_data"
        eventually(lambda: value(settings, landed) == RECORDS, what="all have landed", within=120)
        eventually(lambda: total_lag(settings) == 0, what="every group has committed to the end", within=60)
        audited = asyncio.run(audit_of(settings))
        assert all(row.clean and not row.in_flight for row in audited)
        assert sum(row.covered for row in audited) == RECORDS


async def audit_of(settings: Settings) -> list[PartitionAudit]:
    engine = create_async_engine(settings.async_database_url)
    try:
        return await audit(settings, engine)
    finally:
        await engine.dispose()


def total_lag(settings: Settings) -> int:
    return sum(row.lag for row in asyncio.run(read_lag(settings)))
