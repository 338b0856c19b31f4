"""A local cluster of three Kafka nodes keeps what it has confirmed when one of them is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata

from local_stack.servers import RunningServers, start_servers
from runtime.kafka.clients import QUIET, producer_config
from runtime.kafka.topic_admin import end_offsets, ensure_topics
from runtime.settings import Settings
from tests.waiting import eventually

BEFORE, AFTER = 20_000, 20_000
TOPIC = "customers.raw"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    with start_servers(tmp_path_factory.mktemp("cluster"), names={"kafka"}, brokers=3) as running:
        yield running


@pytest.fixture
def settings(cluster: RunningServers, tmp_path: Path) -> Settings:
    servers = cluster.addresses["KAFKA_BOOTSTRAP_SERVERS"]
    return Settings(headrace_home=tmp_path, kafka_bootstrap_servers=servers, topic_replication=3)


def test_every_topic_has_three_copies_and_needs_two_to_confirm(settings: Settings) -> None:
    assert len(settings.kafka_bootstrap_servers.split(",")) == 3
    eventually(lambda: len(metadata(settings).brokers) == 3, what="all nodes are in the cluster")
    ensure_topics(settings)
    for topic in metadata(settings).topics.values():
        assert all(len(partition.replicas) == 3 for partition in topic.partitions.values()), topic.topic


def test_a_node_killed_under_load_loses_nothing_that_was_confirmed(cluster: RunningServers, settings: Settings) -> None:
    ensure_topics(settings)
    confirmed: dict[tuple[int, int], bytes] = {}
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)
        else:
            place = (message.partition() or 0, message.offset() or 0)
            confirmed[place] = message.value() or b""

    producer = Producer(producer_config(settings))

    def send(first: int, count: int) -> None:
        for number in range(first, first + count):
            while True:
                try:
                    producer.produce(TOPIC, str(number), str(number), on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)

    send(0, BEFORE)
    # The leader of partition 0 dies while records for it are on their way.
    leader = metadata(settings).topics[TOPIC].partitions[0].leader
    cluster.kill("kafka" if leader == 1 else f"kafka-{leader}")
    send(BEFORE, AFTER)
    assert producer.flush(60) == 0
    assert failed == []
    assert len(confirmed) == BEFORE + AFTER

    stored = read_all(settings, TOPIC)
    assert {place: stored.get(place) for place in confirmed} == confirmed
    assert len(stored) == BEFORE + AFTER, "the idempotent producer stored no record twice"

    cluster.start()
    eventually(lambda: all_in_sync(settings), what="the killed node has caught up", within=60)


def metadata(settings: Settings) -> ClusterMetadata:
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": QUIET})
    return client.list_topics(timeout=10)


def all_in_sync(settings: Settings) -> bool:
    partitions = metadata(settings).topics[TOPIC].partitions.values()
    return all(len(partition.isrs) == 3 for partition in partitions)


def read_all(settings: Settings, topic: str) -> dict[tuple[int, int], bytes]:
    ends = eventually(lambda: end_offsets(settings, [topic]), what="every partition has a leader")
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "reader", "log_level": QUIET}
    consumer = Consumer({**config, "enable.auto.commit": False})
    found: dict[tuple[int, int], bytes] = {}
    try:
        for partition in ends:
            partition.offset = 0
        consumer.assign(list(ends))
        wanted = sum(ends.values())

        def read() -> bool:
            for message in consumer.consume(5_000, 1.0):
                if message.error() is None:
                    found[message.partition() or 0, message.offset() or 0] = message.value() or b""
            return len(found) >= wanted

        eventually(read, what=f"{wanted} records are read")
    finally:
        consumer.close()
    return found
