"""Reads what a consumer group has committed, without joining it. Blocking."""

from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from runtime.kafka.clients import QUIET
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS, Place, until_settled
from runtime.settings import Settings


@until_settled
def committed_offsets(settings: Settings, group: str, places: Sequence[Place]) -> dict[Place, int]:
    """The next offset that the group (by its physical name) will read in each of these partitions.

    Those without a commit are left out. Raises KafkaException.
    """
    # Through a consumer that never joins: asking an AdminClient crashes the process in librdkafka when the group's
    # coordinator has only just been elected (confluent-kafka-python #1982).
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group, "log_level": QUIET}
    consumer = Consumer(config)
    try:
        found = consumer.committed([TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_SECONDS)
    finally:
        consumer.close()
    return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
