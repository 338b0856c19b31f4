"""Postgres is lost, and an older dump of it is restored: one command, and every store is as if nothing had happened."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from local_stack.postgres import find_postgres, wheel_folders
from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from tests.e2e.headrace import Headrace, headrace_of
from tests.e2e.stores import rows, value
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import Sent, Workload
from tests.processes import WORKERS, Pipeline
from tests.servers.contract import Servers
from tests.servers.databases import create_database, drop_database

ROWS = "SELECT customer_id, email, first_name, raw_partition, raw_offset FROM customers ORDER BY customer_id"
LANDED = "SELECT count(*) FROM raw_api_data"
FAILED = 'SELECT topic, "partition", "offset", reason FROM ingest_failures ORDER BY 1, 2, 3'


def publish(settings: Settings, records: Sequence[Sent]) -> None:
    producer = Producer(producer_config(settings))
    for record in records:
        producer.produce(settings.named("customers.raw"), record.value, record.key)
    assert producer.flush(60) == 0


def postgres_tool(settings: Settings, name: str, *options: str) -> None:
    """Run `pg_dump` or `pg_restore`: of the server's own version, or the newest here for one in a container."""
    server = int(value(settings, "SHOW server_version_num")) // 10_000
    folders = [find_postgres(), *wheel_folders()]
    versions = {folder: _major(folder / name) for folder in folders}
    fitting = [folder for folder, major in versions.items() if major >= server]
    assert fitting, f"no {name} {server} or newer: {versions}"
    tool = min(fitting, key=lambda folder: versions[folder]) / name
    subprocess.run([tool, *options], check=True, env=os.environ, timeout=120)


def _major(tool: Path) -> int:
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].partition(".")[0])


def everything(settings: Settings) -> dict[str, Any]:
    return {query: rows(settings, query) for query in (ROWS, LANDED, FAILED)}


def audited(headrace: Headrace) -> tuple[int, dict[str, int]]:
    """Exit code of the audit, and how many records it calls lost and in flight."""
    ended = headrace("audit", "--json")
    partitions = json.loads(ended.stdout)["partitions"]
    lost = sum(stop - start for one in partitions for start, stop in one["holes"])
    return ended.returncode, {"lost": lost, "in_flight": sum(one["in_flight"] for one in partitions)}


def read_all(pipeline: Pipeline, keys: Sequence[str]) -> dict[str, int]:
    """Answers of the API to these keys, which fill its cache."""
    with httpx.Client(base_url=pipeline["api"].url, timeout=10, trust_env=False) as client:
        return {key: client.get(f"/api/customers/{key}").status_code for key in keys}


@contextmanager
def at_work(settings: Settings, logs: Path) -> Iterator[Pipeline]:
    """One process after the other, with time for a busy machine: what is tested is not how fast they start."""
    pipeline = Pipeline(settings, logs, (*WORKERS, "api"))
    try:
        for process in pipeline.processes.values():
            process.start()
            process.wait_until_healthy(within=240)
        yield pipeline
    finally:
        pipeline.close()


@pytest.mark.usefixtures("measuring")
def test_an_older_dump_is_restored_and_replayed_until_every_store_is_as_before(
    pipeline_settings: Settings, servers: Servers, tmp_path: Path
) -> None:
    settings, dump = pipeline_settings, tmp_path / "headrace.dump"
    headrace = headrace_of(settings)
    records = list(Workload(1_500, 200, seed=16, movers=0))
    before, after, later = records[:500], records[500:1_200], records[1_200:]
    keys = sorted({record.key.decode() for record in records if record.key})[:50]
    with at_work(settings, tmp_path) as pipeline:
        publish(settings, before)
        wait_until_settled(settings)
        postgres_tool(settings, "pg_dump", "--format=custom", f"--file={dump}", settings.plain_database_url)
        publish(settings, after)
        wait_until_settled(settings)
        read_all(pipeline, keys)
        whole, versions = everything(settings), value(settings, "SELECT last_value FROM row_version")
        running = headrace("recover")
        assert running.returncode == 1
        assert "still run: a group can be set back only while nobody reads. Stop sink-postgres" in running.stderr
        assert everything(settings) == whole

    drop_database(servers.addresses["SUPERUSER_DATABASE_URL"], settings.namespace)
    create_database(servers.addresses["SUPERUSER_DATABASE_URL"], settings.namespace)
    postgres_tool(settings, "pg_restore", "--no-owner", f"--dbname={settings.plain_database_url}", str(dump))
    assert audited(headrace) == (1, {"lost": len(after), "in_flight": 0}), "the audit notices by itself"

    recovered = headrace("recover", "--json")
    assert recovered.returncode == 0, recovered.stderr
    told = json.loads(recovered.stdout)
    assert told["uncovered"] == len(after)
    assert {one["group"] for one in told["set_back"]} == {"sink-postgres", "sink-landing"}
    assert all(one["offset"] < one["committed"] for one in told["set_back"])
    assert told["first_version"] > versions
    again = json.loads(headrace("recover", "--json").stdout)
    assert (again["uncovered"], again["set_back"]) == (len(after), []), "twice is as good as once"
    assert audited(headrace) == (0, {"lost": 0, "in_flight": len(after)})

    with at_work(settings, tmp_path) as pipeline:
        wait_until_settled(settings)
        assert everything(settings) == whole
        assert headrace("audit", "--wait", "60").returncode == 0
        deep = headrace("audit", "--deep", "--settle", "30")
        assert deep.returncode == 0, deep.stdout
        read_all(pipeline, keys)
        verify(settings)
        publish(settings, later)
        wait_until_settled(settings)
        read_all(pipeline, keys)
        verify(settings)
