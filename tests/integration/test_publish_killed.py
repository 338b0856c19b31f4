"""kill -9 of a producer in the middle of its run: the next one goes on where the checkpoint is, and nothing is lost."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from mock_server.app import create_app
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from services.audits.audit import PartitionAudit, audit
from stores.postgres_engine import postgres_engine
from tests.e2e.stores import rows, value
from tests.integration.publish_servers import app_server
from tests.processes import PROJECT, Pipeline, environment_of
from tests.waiting import eventually

ROWS = 60_000
KILLS = 2


@pytest.fixture
def pipeline(pipeline_settings: Settings, tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(pipeline_settings, tmp_path, ("normalizer", "sink postgres")) as running:
        yield running


class Producer:
    """`headrace publish NAME --incremental`, as a process."""

    def __init__(self, settings: Settings, block: str, home: Path) -> None:
        self._environment = os.environ | environment_of(settings)
        self._file = home / "sources.toml"
        self._file.write_text(block)

    def start(self) -> "subprocess.Popen[bytes]":
        words = ["publish", "big", "--incremental", "--sources", str(self._file), "--wait", "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *words], cwd=PROJECT, env=self._environment, stdout=subprocess.PIPE
        )

    def run(self) -> dict[str, Any]:
        """A run to its end, with its counts."""
        process = self.start()
        output, _ = process.communicate(timeout=180)
        answer = json.loads(output)
        assert process.returncode == 0, answer
        run: dict[str, Any] = answer["runs"][0]
        return run


def sent(settings: Settings, topic: str) -> int:
    ends: dict[TopicPartition, int] = end_offsets(settings, [settings.named(topic)])
    return sum(ends.values())


def confirmed(settings: Settings, member: str) -> int:
    """How far the checkpoint is, in the words of the source's kind."""
    found = rows(settings, "SELECT (position->>$1)::bigint AS at FROM etl_checkpoint", member)
    return int(found[0]["at"] or 0) if found else 0


def kill_in_the_middle(producer: Producer, settings: Settings, member: str, step: int) -> None:
    """kill -9 as soon as the checkpoint is `step` further."""
    before = confirmed(settings, member)
    process = producer.start()
    try:
        eventually(lambda: confirmed(settings, member) >= before + step, what="the run is on its way", every=0.01)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -9, "it had ended already"


def audited(settings: Settings) -> list[PartitionAudit]:
    async def ask() -> list[PartitionAudit]:
        engine = postgres_engine(settings)
        try:
            return await audit(settings, engine)
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def test_a_large_file_is_stored_whole_whenever_its_producer_is_killed(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, file = pipeline.settings, tmp_path / "big.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "name", "text"])
        writer.writerows((n, f"row {n}", "two\nlines, in quotes" if n % 7 == 0 else "x" * 40) for n in range(ROWS))
    block = f'[sources.big]\nkind = "csv"\npath = "{file}"\ndataset = "records"\nmap = {{ source_id = "id" }}\n'
    producer = Producer(settings, block, tmp_path)
    for _ in range(KILLS):
        kill_in_the_middle(producer, settings, "offset", file.stat().st_size // 5)
    with file.open("rb") as begun:
        before = begun.read(confirmed(settings, "offset")).decode()
    last = producer.run()

    assert last["published"] <= ROWS - (sum(1 for _ in csv.reader(before.splitlines(keepends=True))) - 1)
    repeated = sent(settings, "records.raw") - ROWS
    with capsys.disabled():
        sys.stdout.write(f"\nCSV, {ROWS:,} rows, killed {KILLS} times: {repeated:,} records repeated\n")
    assert value(settings, "SELECT count(*) FROM normalized_data WHERE source_name = 'big'") == ROWS
    assert repeated >= 0
    assert last["failed"] == 0
    eventually(lambda: all(row.clean and not row.in_flight for row in audited(settings)), what="the audit is clean")
    assert producer.run()["published"] == 0


def test_an_api_is_stored_whole_whenever_its_producer_is_killed(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = pipeline.settings
    with app_server(create_app(Settings())) as url:
        block = (
            f'[sources.big]\nkind = "api"\nurl = "{url}/api/customers"\ndataset = "customers"\n'
            "page_size = 10\nconcurrency = 1\n"
        )
        producer = Producer(settings, block, tmp_path)
        for _ in range(KILLS):
            kill_in_the_middle(producer, settings, "page", 100)
        page = confirmed(settings, "page")
        last = producer.run()
        assert last["published"] <= 10_000 - 10 * page
        repeated = sent(settings, "customers.raw") - 10_000
        with capsys.disabled():
            sys.stdout.write(f"\nAPI, 10,000 records, killed {KILLS} times: {repeated:,} repeated\n")
        assert value(settings, "SELECT count(*) FROM customers") == 10_000
        assert repeated >= 0
        eventually(lambda: all(row.clean and not row.in_flight for row in audited(settings)), what="the audit is clean")
        again = producer.run()
        assert (again["published"], again["unchanged"]) == (0, 10_000)
