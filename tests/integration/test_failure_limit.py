"""A stage that would send everything to `failures` stops: the normalizer and the Postgres sink as processes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from local_stack.programs import ROLES, Instance
from monitoring.lag import PartitionLag, read_lag
from runtime.kafka_clients import producer_config
from runtime.settings import Settings
from runtime.topic_admin import end_offsets
from tests.e2e.stores import rows, value
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


def lag_of(settings: Settings, group: str, topic: str) -> list[PartitionLag]:
    wanted = settings.named(group), settings.named(topic)
    return [row for row in asyncio.run(read_lag(settings)) if (row.group, row.topic) == wanted]


def stopped(process: Process) -> str:
    """What /health says of a process that has stopped at the limit; empty before."""
    answer = httpx.get(f"{process.url}/health", trust_env=False, timeout=5)
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


def test_the_normalizer_stops_one_dataset_and_goes_on_with_the_others(
    pipeline_settings: Settings, normalizer: Process, tmp_path: Path
) -> None:
    settings = pipeline_settings
    for partition in (0, 1):
        publish(settings, "customers.raw", [b"no JSON"] * 6_000, partition)
    problem = eventually(lambda: stopped(normalizer), what="it says that it has stopped")
    assert "of the latest" in problem
    assert "customers" in problem
    assert "FAILURE_LIMIT_PERCENT=0" in problem, "the way out"
    assert ends(settings, "failures") < LIMIT
    (role,) = [role for role in ROLES if role.name == "normalizer"]
    shown = Instance(role, 0, int(normalizer.url.rpartition(":")[2])).problem()
    assert problem in (shown or ""), "`headrace status` shows it"

    # More than Faust buffers per dataset, so that a queue that is full would hold back the others.
    for partition in (0, 1):
        publish(settings, "customers.raw", [b"no JSON"] * 6_000, partition)
    records = [json.dumps({"source_id": f"R{number}", "name": "n"}).encode() for number in range(20_000)]
    publish(settings, "records.raw", records)
    eventually(lambda: ends(settings, "records.clean") == len(records), what="the other dataset goes on", within=30)
    eventually(
        lambda: sum(row.lag for row in lag_of(settings, "normalizer", "records.raw")) == 0,
        what="the other dataset is committed",
        within=30,
    )
    assert ends(settings, "failures") < LIMIT
    assert sum(row.lag for row in lag_of(settings, "normalizer", "customers.raw")) >= 24_000 - LIMIT
    log = (tmp_path / "normalizer.log").read_text()
    assert log.count('"event": "failure_limit_reached"') == 1, "one alarm"
    metrics = httpx.get(f"{normalizer.url}/metrics", trust_env=False).text
    assert 'headrace_normalizer_failure_limit_reached{dataset="customers"} 1.0' in metrics

    # Fixed, or told that the records are to blame: all of it comes again, and nothing was lost.
    assert normalizer.stop() == 0
    again = start("normalizer", settings, tmp_path / "again.log", FAILURE_LIMIT_PERCENT="0")
    try:
        eventually(
            lambda: sum(row.lag for row in lag_of(settings, "normalizer", "customers.raw")) == 0,
            what="with the limit off it goes on",
        )
        assert ends(settings, "failures") >= 24_000
    finally:
        again.kill()


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
        metrics = httpx.get(f"{sink.url}/metrics", trust_env=False).text
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
