"""The first record of a process is sent at once: librdkafka would keep it for half a second."""

import time
from collections.abc import Awaitable, Callable

import pytest

from runtime.kafka.confirmed import BY_KEY, LivePublisher, Outgoing, Publisher, patient_producer, send
from runtime.settings import Settings

KEPT_SECONDS = 0.5
"""Until librdkafka asks again for the id of an idempotent producer that had met no broker."""


async def by_publisher(settings: Settings, message: Outgoing) -> None:
    publisher = Publisher(settings)
    await (await publisher.publish([message])).confirmed()
    await publisher.close()


async def by_live_publisher(settings: Settings, message: Outgoing) -> None:
    publisher = LivePublisher(settings, 30.0)
    await publisher.publish([message])
    await publisher.close()


async def by_sending(settings: Settings, message: Outgoing) -> None:
    [report] = send(patient_producer(settings, 30.0), [message])
    assert isinstance(report, tuple)


@pytest.mark.parametrize("publish", [by_publisher, by_live_publisher, by_sending])
async def test_the_first_record_is_not_kept(
    pipeline_settings: Settings, publish: Callable[[Settings, Outgoing], Awaitable[None]]
) -> None:
    message = Outgoing(pipeline_settings.named("records.raw"), BY_KEY, b"1", b"{}")
    took = []
    for _ in range(8):  # on a busy machine the best of some tells
        began = time.monotonic()
        await publish(pipeline_settings, message)
        took.append(time.monotonic() - began)
    assert min(took) < KEPT_SECONDS, took
