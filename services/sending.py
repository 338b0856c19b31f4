"""Sends messages to Kafka and waits for the broker's answer to each: for replays, releases and reprocessing."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error, producer_config, reason
from runtime.kafka.lookup import Coordinates
from runtime.settings import Settings

DELIVERY_TIMEOUT_MS = 30_000

BY_KEY = -1
"""The partition of a message whose key decides where it goes."""

Report = Callable[[KafkaError | None, Message], None]


class Outgoing(NamedTuple):
    """A message to send. `topic` is the physical name; `partition` may be BY_KEY."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def new_producer(settings: Settings) -> Producer:
    """A producer for `send` that gives up after DELIVERY_TIMEOUT_MS."""
    return Producer(producer_config(settings, log_level=0, **{"delivery.timeout.ms": DELIVERY_TIMEOUT_MS}))


def send(producer: Producer, messages: Sequence[Outgoing]) -> list[Coordinates | KafkaError]:
    """For each message its coordinates, once the broker has confirmed it, or the error. Blocking."""
    answers: dict[int, Coordinates | KafkaError] = {}
    timed_out: list[KafkaError] = []
    for number, message in enumerate(messages):

        def report(error: KafkaError | None, sent: Message, number: int = number) -> None:
            place = cast("Coordinates", (sent.topic(), sent.partition(), sent.offset()))
            answers[number] = delivery_error(error, sent) or place
            if error is not None and error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001 (its public name)
                timed_out.append(error)

        if timed_out:  # the others would wait as long again
            answers[number] = timed_out[0]
            continue
        try:
            while not _queue(producer, message, report):
                producer.poll(0.1)
        except KafkaException as error:
            answers[number] = error.args[0]
    producer.flush()
    return [answers[number] for number in range(len(messages))]


async def send_all(settings: Settings, producer: Producer, messages: Sequence[Outgoing], remedy: str) -> None:
    """Return when the broker has confirmed all messages. Raises DeliveryFailed, with the remedy, if it has not."""
    answers = await asyncio.to_thread(send, producer, messages)
    if errors := [reason(answer) for answer in answers if isinstance(answer, KafkaError)]:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} did not confirm {len(errors)} of {len(messages)} "
            f"records ({errors[0]}); {remedy}"
        )


def _queue(producer: Producer, message: Outgoing, report: Report) -> bool:
    try:
        producer.produce(
            message.topic,
            message.value,
            message.key,
            partition=message.partition,
            on_delivery=report,
            headers=list(message.headers),
        )
    except BufferError:
        return False
    return True
