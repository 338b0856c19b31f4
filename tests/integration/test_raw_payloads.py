"""The original bytes of what a sink rejects, read back from a real raw topic."""

import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from runtime.errors import Backpressure
from runtime.kafka import lookup as raw_lookup
from runtime.kafka.clients import MAX_PAYLOAD_BYTES, producer_config
from runtime.settings import Settings
from schemas.events import FailedRecord, Origin
from sinks.failed_records import RawPayloads
from tests.servers.contract import Servers
from tests.waiting import eventually, eventually_async

TOPIC = "customers.raw"


@pytest.fixture
async def payloads(pipeline_settings: Settings) -> AsyncIterator[RawPayloads]:
    subject = RawPayloads(pipeline_settings)
    yield subject
    await subject.close()


def published(settings: Settings, values: list[bytes], partition: int = 0) -> list[FailedRecord]:
    """Publish these, and the failures that a sink makes of them."""
    producer = Producer(producer_config(settings))
    topic, failures = settings.named(TOPIC), []

    def delivered(_: object, message: object) -> None:
        origin = Origin(topic, partition, message.offset(), message.timestamp()[1])  # type: ignore[attr-defined]
        failures.append(FailedRecord("customers", "postgres", "postgres_refused", "no", origin, 1, payload=b"normal"))

    for content in values:
        while True:
            try:
                producer.produce(topic, content, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0
    return failures


async def test_a_batch_of_10_000_is_read_back_in_seconds(pipeline_settings: Settings, payloads: RawPayloads) -> None:
    values = [b'{"number": %d}' % number for number in range(12_000)]
    failures = published(pipeline_settings, values[:6_000]) + published(pipeline_settings, values[6_000:], partition=3)
    began = time.monotonic()
    found = await payloads.attach(failures[1::6] + failures[:10_000])
    assert time.monotonic() - began < 10
    assert [failed.payload for failed in found] == values[1::6] + values[:10_000]
    assert {failed.message for failed in found} == {"no"}


async def test_a_failure_whose_original_retention_has_taken_keeps_its_normal_form_and_says_so(
    pipeline_settings: Settings, payloads: RawPayloads
) -> None:
    failures = published(pipeline_settings, [b"a", b"b", b"c"])
    admin = AdminClient({"bootstrap.servers": pipeline_settings.kafka_bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(pipeline_settings.named(TOPIC), 0, 2)]).values():
        deleted.result()
    found = await payloads.attach(failures)
    assert [failed.payload for failed in found] == [b"normal", b"normal", b"c"]
    gone = "no; its original is in the topic no more, this is its normal form"
    assert [failed.message for failed in found] == [gone, gone, "no"]


async def test_another_record_at_the_same_coordinates_is_not_taken_for_the_original(
    pipeline_settings: Settings, payloads: RawPayloads
) -> None:
    (failed,) = published(pipeline_settings, [b"of the new topic"])
    earlier = replace(failed.origin, timestamp=failed.origin.timestamp - 1)
    (found,) = await payloads.attach([replace(failed, origin=earlier)])
    assert (found.payload, found.message.startswith("no; its original is in the topic no more")) == (b"normal", True)


async def test_a_value_that_is_too_large_for_a_failure_is_cut_and_says_so(
    pipeline_settings: Settings, payloads: RawPayloads
) -> None:
    (found,) = await payloads.attach(published(pipeline_settings, [b"x" * (MAX_PAYLOAD_BYTES + 1)]))
    assert found.payload == b"x" * MAX_PAYLOAD_BYTES
    assert found.message == f"no (first {MAX_PAYLOAD_BYTES} of {MAX_PAYLOAD_BYTES + 1} bytes kept)"


@pytest.mark.parametrize(("limit", "reason"), [("READ_SECONDS", "Kafka gave 0 of 3"), ("MOST_BYTES", "1,000 bytes")])
async def test_a_look_up_that_would_take_too_long_or_too_much_holds_nobody_up(
    pipeline_settings: Settings, payloads: RawPayloads, monkeypatch: pytest.MonkeyPatch, limit: str, reason: str
) -> None:
    failures = published(pipeline_settings, [b"x" * 600] * 3)
    with monkeypatch.context() as shortened:
        shortened.setattr(raw_lookup, limit, -1.0 if limit == "READ_SECONDS" else 1_000)
        shortened.setattr(raw_lookup, "BATCH_RECORDS", 1)
        found = await payloads.attach(failures)
    assert found[-1].payload == b"normal"
    assert "its original could not be read" in found[-1].message
    assert reason in found[-1].message
    assert [failed.payload for failed in await payloads.attach(failures)] == [b"x" * 600] * 3, "the next one is read"


async def test_a_broker_that_does_not_answer_is_an_outage_and_no_reason_to_keep_less(
    pipeline_settings: Settings, payloads: RawPayloads, servers: Servers
) -> None:
    failures = published(pipeline_settings, [b"x"])
    servers.pause("kafka")
    try:
        began = time.monotonic()
        with pytest.raises(Backpressure, match="cannot read raw records from Kafka"):
            await payloads.attach(failures)
        assert time.monotonic() - began < 60
    finally:
        servers.resume("kafka")

    async def read() -> list[FailedRecord]:
        with suppress(Backpressure):
            return await payloads.attach(failures)
        return []

    # A broker that has just come back says for a moment that it has no such partition. On a busy machine its controller
    # fences it again and again.
    (found,) = await eventually_async(read, what="Kafka answers again", within=180)
    assert (found.payload, found.message) == (b"x", "no")
    # Its controller has fenced it meanwhile, and takes no request until it is back.
    admin = AdminClient({"bootstrap.servers": pipeline_settings.kafka_bootstrap_servers})
    eventually(lambda: admin.list_topics(timeout=5).controller_id >= 0, what="the cluster has a controller again")
