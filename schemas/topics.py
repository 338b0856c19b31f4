"""The registry of topics: what each carries, who writes it, who reads it. Creation, documents and tests read it."""

from dataclasses import dataclass

from schemas.registry import all_datasets, ingested_datasets
from schemas.sinks import groups_reading

FAILURES_TOPIC = "failures"


@dataclass(frozen=True)
class Topic:
    """A topic by its logical name (the namespace is put before it at run time)."""

    name: str
    carries: str
    written_by: str
    read_by: tuple[str, ...]
    log_append_time: bool = False
    """The broker stamps the records: raw topics, where arrival is what counts."""


def all_topics() -> tuple[Topic, ...]:
    """Every topic of every dataset, and `failures`. All have the same number of partitions: they are co-partitioned."""
    topics = [
        Topic(
            FAILURES_TOPIC,
            "rejected records, keyed like the original",
            "normalizer, sink-postgres",
            groups_reading("failures"),
        )
    ]
    for dataset in ingested_datasets():
        topics += [
            Topic(dataset.raw_topic, "the source's bytes", "producers", ("normalizer", *groups_reading("raw")), True),
            Topic(dataset.clean_topic, "normalized records with their origin", "normalizer", groups_reading("clean")),
        ]
    for dataset in all_datasets():
        writer = "relay" if dataset.written_by == "api" else "sink-postgres"
        topics.append(Topic(dataset.changed_topic, "rows as stored, with a version", writer, groups_reading("changed")))
    return tuple(sorted(topics, key=lambda topic: topic.name))


def topics_read_by(group: str) -> tuple[str, ...]:
    """The logical topics that a consumer group reads."""
    return tuple(topic.name for topic in all_topics() if group in topic.read_by)
