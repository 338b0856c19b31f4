"""Before everything goes to `failures` the normalizer holds the source, and the Postgres sink stops: as processes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from schemas.events import HEADER_MAPPING, HEADER_SOURCE
from services.audits.audit import PartitionAudit, audit
from stores.postgres_engine import postgres_engine
from tests.e2e.stores import rows, value
from tests.integration.etl_runs import Command
from tests.integration.test_api_webhooks import BLOCK, post, webhooks
from tests.processes import Process
from tests.waiting import eventually

LIMIT = 1_000


def customer(number: int, **fields: str) -> bytes:
    data = {"customer_id": f"C{number}", "first_name": "Ada", "last_name": "L", "email": f"c{number}@example.org"}
    return json.dumps(data | fields).encode()


def publish(settings: Settings, topic: str, values: list[bytes], partition: int = 0) -> None:
    producer = Producer(producer_config(settings))
    for number, content in enumerate(values):
        producer.produce(settings.named(topic), content, b"C%d" % number, partition=partition)
    assert producer.flush(60) == 0


def ends(settings: Settings, topic: str) -> int:
    return sum(end_offsets(settings, [settings.named(topic)]).values())


def stopped(process: Process) -> str:
    """The problem in /health of a process that has stopped at the limit; empty before."""
    answer = process.get("/health", timeout=5)
    details = answer.json()
    if details.get("state") != "failure_limit_reached":
        return ""
    assert answer.status_code == 503
    return str(details["problem"])


def start(role: str, settings: Settings, log: Path, **environment: str) -> Process:
    process = Process(role, settings, log)
    process.environment |= environment
    process.start()
    process.wait_until_healthy()
    return process


@pytest.fixture
def normalizer(pipeline_settings: Settings, tmp_path: Path) -> Iterator[Process]:
    process = start("normalizer", pipeline_settings, tmp_path / "normalizer.log")
    yield process
    process.kill()


def flood(settings: Settings, source: str, values: list[bytes], mapping: bytes = b'{"email":"mail"}') -> None:
    """Records that fail, since the mapping of their source is wrong."""
    headers: list[tuple[str, str | bytes | None]] = [(HEADER_SOURCE, source), (HEADER_MAPPING, mapping)]
    producer = Producer(producer_config(settings))
    for number, content in enumerate(values):
        producer.produce(settings.named("customers.raw"), content, b"C%d" % number, partition=0, headers=headers)
    assert producer.flush(60) == 0


def audited(settings: Settings) -> tuple[bool, int]:
    """Once nothing is in flight: is the audit clean, and how many records are held?"""

    async def ask() -> list[PartitionAudit]:
        engine = postgres_engine(settings)
        try:
            return await audit(settings, engine)
        finally:
            await engine.dispose()

    def landed() -> list[PartitionAudit]:
        rows = asyncio.run(ask())
        return [] if any(row.in_flight for row in rows) else rows

    rows = eventually(landed, what="nothing is in flight", within=60)
    return all(row.clean for row in rows), sum(row.outcomes.get("held", 0) for row in rows)


SOURCES = """
[sources.bad]
kind = "csv"
path = "bad.csv"
dataset = "customers"
map = { email = "email" }
"""


async def through_the_webhook(settings: Settings, body: bytes) -> dict[str, Any]:
    """Post a customer to a webhook of the same dataset; returns what the API says of its health."""
    block = BLOCK.replace("records", "customers").replace('source_id = "id"', 'customer_id = "customer_id"')
    async with webhooks(settings, block) as client:
        assert (await post(client, body)).status_code == 202
        answer = await client.get("/health")
        assert answer.status_code == 200
        return dict(answer.json())


def test_a_source_that_floods_is_held_while_others_go_on_and_is_released_under_its_coordinates(
    pipeline_settings: Settings, normalizer: Process, tmp_path: Path
) -> None:
    settings = pipeline_settings
    sink = start("sink postgres", settings, tmp_path / "sink.log")
    try:
        flood(settings, "bad", [customer(number) for number in range(1_500)])
        publish(settings, "customers.raw", [customer(1_400, first_name="Newer")])
        publish(settings, "customers.raw", [customer(number) for number in range(5_000, 5_100)])
        asyncio.run(through_the_webhook(settings, customer(6_000)))
        eventually(lambda: value(settings, "SELECT count(*) FROM customers") == 102, what="the others are stored")
        clean, held = audited(settings)
        assert not clean
        assert 1_500 - LIMIT < held < 1_500, "the first ones fail one by one"

        told = normalizer.get("/health")
        assert (told.status_code, told.json()["status"]) == (200, "degraded")
        assert "bad" in told.json()["degraded"]
        assert "headrace failures release" in told.json()["degraded"]
        log = (tmp_path / "normalizer.log").read_text()
        assert log.count('"event": "source_held"') == 1, "one line, however many records"
        assert len(log.splitlines()) < 50
        metrics = normalizer.get("/metrics").text
        assert 'headrace_normalizer_failure_limit_reached{dataset="customers"} 1.0' in metrics
        health = asyncio.run(through_the_webhook(settings, customer(6_000)))
        assert (health["status"], health["held"]) == ("degraded", held)

        file = tmp_path / "mended.toml"
        file.write_text(SOURCES)
        headrace = Command(settings.model_copy(update={"sources_file": file}))
        shown = headrace("failures", "list").stdout
        assert "headrace failures release --source bad" in shown
        assert headrace("audit").returncode == 1
        assert "HELD" in headrace("audit").stdout
        done = headrace.json("failures", "release", "--source", "bad", "--remap")
        assert done == {"released": held, "gone": 0, "still_held": 0}
        assert audited(settings) == (True, 0)
        assert value(settings, "SELECT count(*) FROM customers") == 102 + held - 1
        (newer,) = rows(settings, "SELECT first_name FROM customers WHERE customer_id = 'C1400'")
        assert newer["first_name"] == "Newer", "it came after the one that was held"
        (released,) = rows(settings, "SELECT raw_offset FROM customers WHERE customer_id = 'C1499'")
        assert released["raw_offset"] == 1_499
        assert headrace.json("failures", "release", "--source", "bad")["released"] == 0, "nothing is released twice"

        flood(settings, "worse", [b"no JSON"] * 1_500, mapping=b"{}")
        eventually(lambda: audited(settings)[1] > 0, what="another source is held")
        discarded = headrace("failures", "discard", "--source", "worse", "--reason-text", "sent by mistake")
        assert discarded.returncode == 0, discarded.stderr
        assert audited(settings) == (True, 0)
    finally:
        sink.kill()


def test_a_small_file_of_garbage_alone_goes_to_failures(pipeline_settings: Settings, normalizer: Process) -> None:
    publish(pipeline_settings, "customers.raw", [b"no JSON"] * 5)
    eventually(lambda: ends(pipeline_settings, "failures") == 5, what="all of it is a failure")
    assert not stopped(normalizer)


def test_the_postgres_sink_stops_and_goes_on_when_the_table_is_put_right(
    pipeline_settings: Settings, normalizer: Process, tmp_path: Path
) -> None:
    settings = pipeline_settings
    # A bad migration, with which Postgres takes nothing any more.
    rows(settings, "ALTER TABLE customers ADD CONSTRAINT nobody CHECK (first_name = 'nobody')")
    sink = start("sink postgres", settings, tmp_path / "sink.log")
    try:
        publish(settings, "customers.raw", [customer(number) for number in range(3_000)])
        problem = eventually(lambda: stopped(sink), what="it says that it has stopped")
        assert "customers" in problem
        assert value(settings, "SELECT count(*) FROM ingest_failures") < LIMIT
        assert ends(settings, "failures") < LIMIT
        log = (tmp_path / "sink.log").read_text()
        assert log.count('"event": "failure_limit_reached"') == 1, "one alarm"
        metrics = sink.get("/metrics").text
        assert 'headrace_sink_failure_limit_reached{sink="postgres"} 1.0' in metrics

        rows(settings, "ALTER TABLE customers DROP CONSTRAINT nobody")
        assert sink.stop() == 0
        sink.start()
        failed = "SELECT count(*) FROM ingest_failures"
        eventually(
            lambda: value(settings, "SELECT count(*) FROM customers") + value(settings, failed) == 3_000,
            what="every record has an outcome",
        )
        eventually(lambda: not stopped(sink), what="it runs again")
    finally:
        sink.kill()
