"""Publishes to a sink's topics and runs a sink in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from confluent_kafka import Producer

from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from schemas.events import ChangeEvent, Origin
from sinks.runner import Runner
from sinks.sink import Sink


def publish(settings: Settings, topic: str, *messages: tuple[str | bytes | None, bytes | None], **more: Any) -> None:
    """Send (key, value) pairs to partition 0 of a logical topic, confirmed."""
    producer = Producer(producer_config(settings))
    for key, value in messages:
        producer.produce(settings.named(topic), value, key, partition=0, **more)
    assert producer.flush(30) == 0


def change(key: str, version: int, **fields: Any) -> tuple[str, bytes]:
    """A change event of a customer, as (key, value)."""
    data = {"customer_id": key, "first_name": "José", "last_name": "Muñoz", "email": f"{key}@example.org"} | fields
    event = ChangeEvent(
        key, "stored", version, Origin("customers.raw", 0, version, 1), msgspec.Raw(msgspec.json.encode(data))
    )
    return key, msgspec.json.encode(event)


@asynccontextmanager
async def running(sink: Sink[Any], settings: Settings) -> AsyncIterator[Runner[Any]]:
    """The sink at work; its crash fails the test."""
    runner = Runner(sink, settings)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await task
