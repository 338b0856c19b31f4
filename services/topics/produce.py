"""One record, published by hand to see what becomes of it: as `headrace push` publishes a line."""

import uuid
from dataclasses import dataclass

from confluent_kafka import KafkaError

from producers.raw_records import RawHeaders, require_topic
from producers.record_key import JsonRecordKey
from producers.source import SourceDescription, check_source_name, check_takes_records
from producers.webhook.webhooks import BodyRefused, TooManyRecords, records_in
from runtime.errors import DeliveryFailed
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import BY_KEY, Outgoing, patient_producer, send
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from services.topics.listing import declared_topic

PUSH = "push"
DELIVERY_SECONDS = 8.0


class NotForRecords(ValueError):
    """Records are not published to this topic; the message says why, and where else."""


class RecordRefused(ValueError):
    """The body is no single record, or its source's name is wrong."""


@dataclass(frozen=True)
class PublishedRecord:
    """Where the record lies, in which run, and under which key; `headrace trace` follows it from there."""

    topic: str
    partition: int
    offset: int
    key: str | None
    dataset: str
    source: str
    run_id: str


def publish_record(settings: Settings, topic: str, body: bytes, source: str) -> PublishedRecord:
    """Publish one JSON object, untouched, to a raw topic; returns once the broker has confirmed it. Blocking.

    What the dataset makes of it is the normalizer's to say: a record with wrong fields becomes a failure. Raises
    UnknownTopic, NotForRecords, RecordRefused, and DeliveryFailed if it is not confirmed.
    """
    physical = declared_topic(settings, topic)
    dataset = _dataset_of(settings, physical)
    try:
        description = SourceDescription(check_source_name(source), PUSH, dataset)
        values = records_in(body)
    except (ValueError, BodyRefused, TooManyRecords) as error:
        raise RecordRefused(str(error)) from None
    if len(values) != 1:
        raise RecordRefused(f"the body has {len(values)} records; one is published here, `headrace push` takes many")
    [value] = values
    require_topic(settings, physical, DELIVERY_SECONDS)
    run_id = str(uuid.uuid4())
    key = JsonRecordKey(description).of(value)
    message = Outgoing(physical, BY_KEY, key, value, RawHeaders(description, run_id).of(0, None))
    [report] = send(patient_producer(settings, DELIVERY_SECONDS), [message])
    if isinstance(report, KafkaError):
        raise DeliveryFailed(f"Kafka has not confirmed the record: {reason(report)}")
    return PublishedRecord(*report, key, dataset.name, source, run_id)


def _dataset_of(settings: Settings, topic: str) -> Dataset:
    """The dataset whose raw topic it is. Raises NotForRecords."""
    for dataset in all_datasets():
        if dataset.written_by == "api" and topic == settings.named(dataset.changed_topic):
            try:
                check_takes_records(dataset)
            except ValueError as error:
                raise NotForRecords(f"{topic} is written by the relay: {error}") from None
        elif topic == settings.named(dataset.raw_topic):
            return dataset
        elif topic in map(settings.named, (dataset.clean_topic, dataset.changed_topic)):
            writer = "the normalizer" if topic.endswith(".clean") else "the Postgres sink"
            raise NotForRecords(
                f"{topic} is written by {writer} only; publish the record to {settings.named(dataset.raw_topic)}"
            )
    raise NotForRecords(f"{topic} is written by the stages that reject records; publish to a raw topic")
