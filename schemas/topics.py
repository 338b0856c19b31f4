"""The registry of topics. Creation, the command line, look-ups of consumer groups, documents and tests read it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from schemas.dataset import KEY_SEPARATOR, Dataset
from schemas.events import ChangeEvent, CleanRecord, FailedRecord, Origin
from schemas.registry import all_datasets, ingested_datasets
from schemas.sinks import POSTGRES, groups_reading

FAILURES_TOPIC = "failures"


@dataclass(frozen=True)
class Topic:
    """A topic by its logical name (the namespace is put before it at run time)."""

    name: str
    carries: str
    """The messages in a few words."""
    description: str
    written_by: str
    read_by: tuple[str, ...]
    key: str
    """Fields whose text is the messages' key."""
    value: type[msgspec.Struct] | None
    """The schema of the values, in JSON; None: they are the source's bytes."""
    make_example: Callable[[], bytes] | None
    """Makes `example`; None for a dataset that declares none. Not made before somebody asks: it may be wrong."""
    version: int = 1
    """Version of the schema. Raise it when readers of the one before cannot read the new one."""
    log_append_time: bool = False
    """The broker stamps the records: raw topics, where arrival is what counts."""
    retention: int = 1
    """Time for which messages are kept, in TOPIC_RETENTION_HOURS, where its kind has no setting of its own."""
    cleanup_policy: Literal["delete"] = "delete"
    """Set when the topic is created, whatever the broker's default: descriptions say why none may be compacted."""

    @property
    def kind(self) -> str:
        """raw, clean, changed or failures."""
        return self.name.rpartition(".")[2]

    @property
    def example(self) -> bytes | None:
        """A value, of a dataset that declares an example. Raises InvalidField for an example that is wrong."""
        return self.make_example() if self.make_example else None


def all_topics() -> tuple[Topic, ...]:
    """Every topic of every dataset, and `failures`. All have the same number of partitions: they are co-partitioned."""
    topics = [_failures(), *map(_changed, all_datasets())]
    for dataset in ingested_datasets():
        topics += [_raw(dataset), _clean(dataset)]
    return tuple(sorted(topics, key=lambda topic: topic.name))


def topics_read_by(group: str) -> tuple[str, ...]:
    """The logical topics that a consumer group reads."""
    return tuple(topic.name for topic in all_topics() if group in topic.read_by)


def _raw(dataset: Dataset) -> Topic:
    return Topic(
        dataset.raw_topic,
        "the source's bytes",
        "What the source gives, with source, run and field mapping in headers. A message without a value deletes "
        "the record of its key. Never compacted: coverage accounts for every offset, and a record that vanishes "
        "before Postgres has it counts as lost.",
        "producers",
        ("normalizer", *groups_reading("raw")),
        KEY_SEPARATOR.join(dataset.key),
        None,
        (lambda: msgspec.json.encode(dataset.example)) if dataset.example else None,
        log_append_time=True,
    )


def _clean(dataset: Dataset) -> Topic:
    return Topic(
        dataset.clean_topic,
        "normalized records with their origin",
        "One for each raw record that has a normal form, with the coordinates of that record. Never compacted: of two "
        "records of one key each is the outcome of a raw offset of its own.",
        "normalizer",
        groups_reading("clean"),
        KEY_SEPARATOR.join(dataset.key),
        CleanRecord,
        (lambda: msgspec.json.encode(_clean_example(dataset))) if dataset.example else None,
    )


def _changed(dataset: Dataset) -> Topic:
    return Topic(
        dataset.changed_topic,
        "rows as stored, with a version",
        "Published after the commit, at least once: a reader keeps the highest version of a key. Not compacted, since "
        "compaction keeps the last message of a key, and a redelivery may put an older version behind a newer one. A "
        "store that has missed what is no longer kept is put right from Postgres, by `headrace audit --deep --repair`.",
        "relay" if dataset.written_by == "api" else POSTGRES.group,
        groups_reading("changed"),
        KEY_SEPARATOR.join(dataset.key),
        ChangeEvent,
        (lambda: msgspec.json.encode(_changed_example(dataset))) if dataset.example else None,
    )


def _failures() -> Topic:
    example = FailedRecord(
        "customers", "normalizer", "not_json", "the value is no JSON object", _origin("customers.raw"), _MOMENT,
        key="CUST001", payload=b"CUST001;Ada", source="customers_api", kind="api",
    )  # fmt: skip
    return Topic(
        FAILURES_TOPIC,
        "rejected records, keyed like the original",
        "The dead letters of all datasets, with their bytes, the reason and the coordinates of the raw record. The "
        "Postgres sink keeps them in `ingest_failures`. Kept longer than the rest, since people come to them late; "
        "never compacted, since each is the outcome of a raw offset of its own.",
        f"normalizer, {POSTGRES.group}",
        groups_reading("failures"),
        "the original record's",
        FailedRecord,
        lambda: msgspec.json.encode(example),
        retention=4,
    )


_MOMENT = 1_767_225_600_000


def _origin(raw_topic: str) -> Origin:
    return Origin(raw_topic, partition=0, offset=41, timestamp=_MOMENT)


def _clean_example(dataset: Dataset) -> CleanRecord:
    data = {f.name: f.type.normalize(dataset.example.get(f.name, f.default)) for f in dataset.fields}
    raw = msgspec.Raw(msgspec.json.encode(data))
    return CleanRecord(dataset.key_text(data), _origin(dataset.raw_topic), raw, source="example", kind="push")


def _changed_example(dataset: Dataset) -> ChangeEvent:
    clean = _clean_example(dataset)
    identity = {"id": 7} if dataset.serial_id else {}
    times = {"created_at": "2026-01-01T00:00:00.000000Z", "updated_at": None}
    row = msgspec.json.decode(clean.data) | identity | times
    origin = clean.origin if dataset.written_by == "pipeline" else None
    return ChangeEvent(clean.key, "stored", 1, origin, msgspec.Raw(msgspec.json.encode(row)))
