"""Sends messages to Kafka and waits for the broker's answer to each: for replays, releases and reprocessing."""

import asyncio
from collections.abc import Sequence

from confluent_kafka import KafkaError, Producer

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import Outgoing, patient_producer, send
from runtime.settings import Settings

DELIVERY_SECONDS = 30.0


def new_producer(settings: Settings) -> Producer:
    """A producer for `send_all` that gives up after DELIVERY_SECONDS."""
    return patient_producer(settings, DELIVERY_SECONDS)


async def send_all(settings: Settings, producer: Producer, messages: Sequence[Outgoing], remedy: str) -> None:
    """Return when the broker has confirmed all messages. Raises DeliveryFailed, with the remedy, if it has not."""
    answers = await asyncio.to_thread(send, producer, messages)
    if errors := [reason(answer) for answer in answers if isinstance(answer, KafkaError)]:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} did not confirm {len(errors)} of {len(messages)} "
            f"records ({errors[0]}); {remedy}"
        )
