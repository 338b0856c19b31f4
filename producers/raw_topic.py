"""Asks, before anything is read, for the raw topic to publish to."""

import time

from confluent_kafka import KafkaException

from runtime.errors import DeliveryFailed
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings

CONNECT_SECONDS = 10.0
TOPIC_SECONDS = 3.0
"""A topic that has just been created is not in every broker's metadata yet."""

POLL_SECONDS = 0.1


def require_topic(settings: Settings, topic: str, seconds: float = CONNECT_SECONDS) -> None:
    """Blocking, at most `seconds`. Raises DeliveryFailed when Kafka does not answer or the topic does not exist."""
    admin = admin_client(settings)
    deadline = time.monotonic() + min(TOPIC_SECONDS, seconds)
    try:
        # Asked without naming the topic: a broker that creates topics on demand would make it with its own defaults.
        while topic not in admin.list_topics(timeout=seconds).topics:
            if time.monotonic() > deadline:
                raise DeliveryFailed(f"topic {topic} does not exist yet; `headrace setup` creates it")
            time.sleep(POLL_SECONDS)
    except KafkaException as error:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer ({error.args[0].str()}); "
            "`headrace up` starts the stack, `headrace status` says what is down"
        ) from error
