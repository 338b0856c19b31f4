"""A group's coordinator that goes away for moments, as when a broker stalls: nobody is left behind."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer

from local_stack.kafka import Kafka
from local_stack.servers import RunningServers, start_servers
from runtime.kafka_clients import producer_config
from runtime.settings import Settings
from runtime.topic_admin import ensure_topics
from sinks.intake import Intake
from tests.waiting import eventually

TOPIC = "customers.changed"
GROUPS = 60
RECORDS = 20


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """A broker whose session with its controller ends before each heartbeat: it leads nothing every other moment."""
    usual = Kafka.properties
    restless = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "2100"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kafka, "properties", lambda kafka: usual(kafka) | restless)
        with start_servers(tmp_path_factory.mktemp("restless"), names={"kafka"}) as running:
            yield running


def test_every_group_reads_on_whenever_its_coordinator_goes_away(restless: RunningServers, tmp_path: Path) -> None:
    servers = restless.addresses["KAFKA_BOOTSTRAP_SERVERS"]
    settings = Settings(headrace_home=tmp_path, kafka_bootstrap_servers=servers)
    ensure_topics(settings)
    producer = Producer(producer_config(settings))
    for number in range(RECORDS):
        producer.produce(TOPIC, str(number), str(number))
    assert producer.flush(60) == 0

    def read_all(number: int) -> None:
        time.sleep(number / 5)  # so that they join at different moments of the broker's life
        intake = Intake(settings, f"sink-test-{number}", [TOPIC])
        intake.open()
        seen: set[tuple[int | None, int | None]] = set()
        try:

            def all_seen() -> bool:
                seen.update((message.partition(), message.offset()) for message in intake.collect())
                return len(seen) == RECORDS

            eventually(all_seen, what=f"group {number} has read all")
        finally:
            intake.close()

    with ThreadPoolExecutor(GROUPS) as pool:
        for read in [pool.submit(read_all, number) for number in range(GROUPS)]:
            read.result()
