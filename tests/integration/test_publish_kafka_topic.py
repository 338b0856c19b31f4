"""A topic of somebody else's: read from the committed offsets to the end, committed once our broker has confirmed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from structlog.testing import capture_logs

from producers.kafka.reading import BATCH_RECORDS
from producers.kafka.source import COMMIT_RECORDS
from producers.publish import publish
from producers.source import Source, SourceFailed
from producers.sources import SourcesError, build_source
from runtime.settings import Settings
from tests.integration.api_client import closed_port
from tests.integration.publish_servers import consume_all
from tests.integration.test_publish_command import environment
from tests.transactions import aborted, committed, hung, transactional_producer
from tests.waiting import eventually

PARTITIONS = 3
MANY_AT_ONCE = {"queue.buffering.max.messages": 1_000_000}


class Foreign:
    """A topic that other people fill."""

    def __init__(self, settings: Settings) -> None:
        self.topic = f"theirs-{settings.namespace}"
        self.group = f"{settings.namespace}.headrace.partner"
        self.servers = settings.kafka_bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 2})

    def create(self) -> None:
        for made in self.admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)]).values():
            made.result()
        eventually(lambda: self.topic in self.admin.list_topics().topics, what="the foreign topic exists")

    def delete(self) -> None:
        for deletion in self.admin.delete_topics([self.topic]).values():
            deletion.result()

    def producer(self, **config: Any) -> Producer:
        return Producer({"bootstrap.servers": self.servers, "log_level": 2, "linger.ms": 20, **MANY_AT_ONCE, **config})

    def send(self, numbers: range, partition: int | None = None) -> None:
        producer = self.producer()
        for number in numbers:
            value = b'{"id": %d, "title": "n%d"}' % (number, number)
            producer.produce(self.topic, value, partition=number % PARTITIONS if partition is None else partition)
            producer.poll(0)
        assert producer.flush(30) == 0

    def committed(self) -> list[int]:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.group, "log_level": 2})
        try:
            places = [TopicPartition(self.topic, partition) for partition in range(PARTITIONS)]
            return [max(0, place.offset) for place in consumer.committed(places, timeout=10)]
        finally:
            consumer.close()


@pytest.fixture
def foreign(pipeline_settings: Settings) -> Iterator[Foreign]:
    theirs = Foreign(pipeline_settings)
    theirs.create()
    yield theirs
    theirs.delete()


def partner(foreign: Foreign, settings: Settings, **block: Any) -> Source:
    values = {
        "kind": "kafka",
        "bootstrap_servers": foreign.servers,
        "topic": foreign.topic,
        "dataset": "records",
        "map": {"source_id": "id", "name": "title"},
        **block,
    }
    return build_source("partner", values, settings, Path())


def ids(settings: Settings) -> list[int]:
    return sorted(json.loads(record.value)["id"] for record in consume_all(settings, "records.raw"))


async def test_each_run_reads_what_has_come_since_the_last_one(pipeline_settings: Settings, foreign: Foreign) -> None:
    source, counts = partner(foreign, pipeline_settings), list[int]()
    for numbers in (range(10), range(10, 10), range(10, 15)):
        foreign.send(numbers)
        counts.append((await publish(source, pipeline_settings)).published)
    assert counts == [10, 0, 5]
    assert ids(pipeline_settings) == list(range(15))
    assert sum(foreign.committed()) == 15


async def test_only_committed_transactions_are_read_and_the_run_ends_after_their_markers(
    pipeline_settings: Settings, foreign: Foreign
) -> None:
    producer = transactional_producer(pipeline_settings)
    committed(producer, foreign.topic, titled(1, 2))
    aborted(producer, foreign.topic, titled(3))
    with hung(pipeline_settings, foreign.topic, titled(4)):
        foreign.send(range(5, 6), partition=0)
        source = partner(foreign, pipeline_settings, timeout_seconds=20)
        assert (await publish(source, pipeline_settings)).published == 2
        assert foreign.committed() == [5, 0, 0], "behind the markers, and before the transaction that is open"
    assert (await publish(source, pipeline_settings)).published == 1
    assert ids(pipeline_settings) == [1, 2, 5]
    assert foreign.committed() == [8, 0, 0]


def titled(*numbers: int) -> list[tuple[bytes, bytes | None]]:
    return [(b"%d" % number, b'{"id": %d, "title": "n%d"}' % (number, number)) for number in numbers]


async def test_key_headers_and_deletes_are_carried_over(pipeline_settings: Settings, foreign: Foreign) -> None:
    producer = foreign.producer()
    producer.produce(foreign.topic, b'{"id": 7, "title": "x"}', b"theirs", 0, headers=[("trace", b"t1")])
    producer.produce(foreign.topic, None, b"8", 0)
    producer.produce(foreign.topic, b"no json", b"\xff", 0)
    assert producer.flush(30) == 0
    await publish(partner(foreign, pipeline_settings), pipeline_settings, run_id="run-1")
    by_place = {record.headers["headrace-origin"]: record for record in consume_all(pipeline_settings, "records.raw")}
    stored, deleted, broken = (by_place[f"{foreign.topic}:0:{offset}"] for offset in range(3))
    assert (stored.key, stored.value, stored.headers["trace"]) == ("partner:7", b'{"id": 7, "title": "x"}', "t1")
    assert (stored.headers["headrace-kind"], stored.headers["headrace-run"]) == ("kafka", "run-1")
    assert (deleted.key, deleted.value) == ("partner:8", b"")
    assert (broken.key, broken.value) == ("\ufffd", b"no json")


async def test_nothing_is_committed_before_our_broker_has_confirmed(
    pipeline_settings: Settings, foreign: Foreign
) -> None:
    foreign.send(range(10))
    source = partner(foreign, pipeline_settings)
    read = [batch async for batch in source.batches()]
    assert sum(len(batch.records) for batch in read) == 10
    assert foreign.committed() == [0] * PARTITIONS
    assert (await publish(source, pipeline_settings)).published == 10
    assert sum(foreign.committed()) == 10


async def test_transactions_are_read_when_they_are_committed_and_never_if_aborted(
    pipeline_settings: Settings, foreign: Foreign
) -> None:
    producer = foreign.producer(**{"transactional.id": foreign.topic})
    producer.init_transactions(30)
    for number, keep in enumerate([True, False, True]):
        producer.begin_transaction()
        producer.produce(foreign.topic, b'{"id": %d, "title": "x"}' % number, partition=0)
        if keep:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    source = partner(foreign, pipeline_settings)
    assert [(await publish(source, pipeline_settings)).published for _ in range(2)] == [2, 0]
    assert ids(pipeline_settings) == [0, 2]


async def test_a_source_that_starts_at_the_latest_reads_what_comes_after_its_first_run(
    pipeline_settings: Settings, foreign: Foreign
) -> None:
    source = partner(foreign, pipeline_settings, start="latest")
    foreign.send(range(10))
    assert (await publish(source, pipeline_settings)).published == 0
    foreign.send(range(10, 13))
    assert (await publish(source, pipeline_settings)).published == 3


async def test_records_lost_to_retention_are_logged(pipeline_settings: Settings, foreign: Foreign) -> None:
    source = partner(foreign, pipeline_settings)
    foreign.send(range(3), partition=0)
    await publish(source, pipeline_settings)
    foreign.send(range(3, 10), partition=0)
    for deletion in foreign.admin.delete_records([TopicPartition(foreign.topic, 0, 8)]).values():
        deletion.result()
    with capture_logs() as logs:
        assert (await publish(source, pipeline_settings)).published == 2
    [gap] = [line for line in logs if line["event"] == "kafka_source_gap"]
    assert (gap["partition"], gap["reason"]) == (0, "5 records are gone by retention")


async def test_a_wrong_cluster_or_topic_is_an_error_that_names_the_setting(
    pipeline_settings: Settings, foreign: Foreign
) -> None:
    closed = f"127.0.0.1:{closed_port()}"
    for block, message in (
        ({"bootstrap_servers": closed, "timeout_seconds": 2}, f"at {closed}: .*check `bootstrap_servers`"),
        ({"topic": "no-such-topic"}, "there is no topic no-such-topic .*check `topic`"),
    ):
        with pytest.raises(SourceFailed, match=message):
            await publish(partner(foreign, pipeline_settings, **block), pipeline_settings)
    with pytest.raises(SourcesError, match="this is a topic of this pipeline itself"):
        partner(foreign, pipeline_settings, topic=pipeline_settings.named("records.raw"))


def test_a_run_that_is_killed_is_taken_up_where_it_was_and_nothing_is_lost(
    pipeline_settings: Settings, foreign: Foreign, tmp_path: Path
) -> None:
    total = 120_000
    foreign.send(range(total))
    file = tmp_path / "partner.toml"
    file.write_text(
        f'[sources.partner]\nkind = "kafka"\nbootstrap_servers = "{foreign.servers}"\ntopic = "{foreign.topic}"\n'
        'dataset = "records"\nmap = { source_id = "id", name = "title" }\n'
    )
    command = [sys.executable, "-m", "cli", "publish", "partner", "--sources", str(file), "--json"]
    variables = environment(pipeline_settings)
    first = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        eventually(lambda: sum(foreign.committed()), what="the first offsets are committed", every=0.02)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    before = sum(foreign.committed())
    assert 0 < before < total
    second = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, timeout=120, check=True)
    assert json.loads(second.stdout)["runs"][0]["published"] == total - before
    arrived = ids(pipeline_settings)
    assert set(arrived) == set(range(total))
    assert len(arrived) - total <= COMMIT_RECORDS + BATCH_RECORDS
    assert sum(foreign.committed()) == total
