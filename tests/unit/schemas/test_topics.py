"""Topics as data: every topic says all of itself, and its example is what its writers write and its readers read."""

import msgspec
import pytest

from data.etl import _Raw
from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.events import ChangeEvent, CleanRecord, FailedRecord
from schemas.registry import all_datasets, dataset_named, ingested_datasets
from schemas.topics import FAILURES_TOPIC, Topic, all_topics
from stream_processors.normalize import RecordNormalizer

TOPICS = {topic.name: topic for topic in all_topics()}

every_topic = pytest.mark.parametrize("topic", all_topics(), ids=lambda topic: topic.name)


def decoded(topic: Topic, value: bytes | None) -> msgspec.Struct:
    assert topic.value is not None
    assert value is not None
    decoder: msgspec.json.Decoder[msgspec.Struct] = msgspec.json.Decoder(topic.value)
    return decoder.decode(value)


@every_topic
def test_every_topic_is_described_in_full(topic: Topic) -> None:
    assert topic.carries
    assert topic.description.endswith(".")
    assert topic.written_by
    assert topic.read_by
    assert topic.key
    assert topic.version >= 1
    assert topic.example is not None, "declare an example of the dataset"


@every_topic
def test_no_topic_is_compacted_and_failures_alone_are_kept_longer(topic: Topic) -> None:
    assert topic.cleanup_policy == "delete"
    assert "compacted" in topic.description
    assert (topic.retention > 1) == (topic.name == FAILURES_TOPIC)


@pytest.mark.parametrize("dataset", ingested_datasets(), ids=lambda dataset: dataset.name)
def test_the_raw_example_becomes_the_clean_one(dataset: Dataset) -> None:
    outcome = RecordNormalizer(dataset).normalize(_Raw(TOPICS[dataset.raw_topic].example, ()), now_ms=0)
    normalized = msgspec.json.decode(outcome.value, type=CleanRecord)
    clean = decoded(TOPICS[dataset.clean_topic], TOPICS[dataset.clean_topic].example)
    assert isinstance(clean, CleanRecord)
    assert msgspec.json.decode(clean.data) == msgspec.json.decode(normalized.data)
    assert (clean.key, clean.origin.topic) == (normalized.key, dataset.raw_topic)


@pytest.mark.parametrize("dataset", all_datasets(), ids=lambda dataset: dataset.name)
def test_the_example_of_a_changed_topic_is_a_stored_row(dataset: Dataset) -> None:
    event = decoded(TOPICS[dataset.changed_topic], TOPICS[dataset.changed_topic].example)
    assert isinstance(event, ChangeEvent)
    row = msgspec.json.decode(event.data)
    own = {"created_at", "updated_at"} | ({"id"} if dataset.serial_id else set())
    assert set(row) == {field.name for field in dataset.fields} | own
    assert event.key == dataset.key_text(row)
    assert (event.origin is None) == (dataset.written_by == "api")
    assert all(field.type.normalize(row[field.name]) == row[field.name] for field in dataset.fields)


def test_the_example_of_failures_is_a_failed_record() -> None:
    failed = decoded(TOPICS[FAILURES_TOPIC], TOPICS[FAILURES_TOPIC].example)
    assert isinstance(failed, FailedRecord)
    assert failed.origin.topic in TOPICS


@pytest.mark.parametrize("name", ["customers.clean", "customers.changed", FAILURES_TOPIC])
def test_a_value_without_a_required_field_does_not_fit_the_topics_schema(name: str) -> None:
    value = msgspec.json.decode(TOPICS[name].example or b"")
    del value["origin" if name != "customers.changed" else "version"]
    with pytest.raises(msgspec.ValidationError):
        decoded(TOPICS[name], msgspec.json.encode(value))


def test_a_wrong_example_does_not_keep_a_process_from_its_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    customers = dataset_named("customers")
    monkeypatch.setitem(customers.example, "date_of_birth", "soon")
    assert {topic.name for topic in all_topics()} == set(TOPICS)
    wrong = next(topic for topic in all_topics() if topic.name == customers.clean_topic)
    with pytest.raises(InvalidField):
        _ = wrong.example
