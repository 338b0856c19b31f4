"""A group's coordinator that goes away for moments, as when a broker stalls: nobody is left behind."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka import Producer

from local_stack.servers import start_servers
from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings
from sinks.group_consumer import GroupConsumer
from tests.servers.restless import restless
from tests.waiting import eventually

TOPIC = "customers.changed"
GROUPS = 30
RECORDS = 20


def test_every_group_reads_on_whenever_its_coordinator_goes_away(tmp_path: Path) -> None:
    with start_servers(tmp_path, names={"kafka"}) as kafka:
        servers = kafka.addresses["KAFKA_BOOTSTRAP_SERVERS"]
        settings = Settings(headrace_home=tmp_path, kafka_bootstrap_servers=servers)
        ensure_topics(settings)
        publish_numbers(settings)
        with restless(kafka), ThreadPoolExecutor(GROUPS) as pool:
            for read in [pool.submit(read_all, settings, number) for number in range(GROUPS)]:
                read.result()


def publish_numbers(settings: Settings) -> None:
    producer = Producer(producer_config(settings))
    for number in range(RECORDS):
        producer.produce(TOPIC, str(number), str(number))
    assert producer.flush(60) == 0


def read_all(settings: Settings, number: int) -> None:
    time.sleep(number / 5)  # so that they join at different moments of the broker's life
    consumer = GroupConsumer(settings, f"sink-test-{number}", [TOPIC])
    consumer.open()
    seen: set[tuple[int | None, int | None]] = set()

    def all_seen() -> bool:
        seen.update((message.partition(), message.offset()) for message in consumer.poll().messages)
        return len(seen) == RECORDS

    try:
        # That it reads on is at stake, not how fast: on a busy machine the broker is away most of the time.
        eventually(all_seen, what=f"group {number} has read all", within=180)
    finally:
        consumer.close()
