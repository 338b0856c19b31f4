"""The topics of the pipeline, as they are declared and as the broker has them."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka.admin import AdminClient

from runtime.kafka.browse import bounds
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS, retention_hours
from runtime.settings import Settings
from schemas.topics import Topic, all_topics


class UnknownTopic(LookupError):
    """No topic has that name; the message names those that are near."""


@dataclass(frozen=True)
class PartitionEnds:
    """The offsets that a partition keeps: from `first` up to `end`, which is the last stable one and not among them."""

    partition: int
    first: int
    end: int


@dataclass(frozen=True)
class ListedTopic:
    """A topic of the registry. `partitions` is 0 for one that does not exist yet."""

    name: str
    dataset: str | None
    """The logical name of its dataset; None for `failures`, which all share."""
    partitions: int
    written: int
    """Offsets written so far, over all partitions."""
    kept: int
    """Offsets that the broker still has. No count of records: transactions' markers have offsets too."""
    kept_hours: int
    offsets: list[PartitionEnds]
    cleanup_policy: str
    carries: str
    description: str
    written_by: str
    read_by: list[str]
    key: str
    value: str
    version: int
    example: Any
    takes_test_records: bool
    """True for raw topics: a record may be published there to see what becomes of it."""


def list_topics(settings: Settings, admin: AdminClient, names: Iterable[str] | None = None) -> list[ListedTopic]:
    """The topics of the registry, or those of these physical names. Blocking. Raises KafkaException."""
    declared = {settings.named(one.name): one for one in all_topics()}
    chosen = {name: declared[name] for name in names} if names is not None else declared
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    places = [
        (name, partition) for name in chosen if name in metadata for partition in sorted(metadata[name].partitions)
    ]
    ends = bounds(admin, places)
    found = []
    for name, topic in chosen.items():
        offsets = [PartitionEnds(place[1], *kept) for place, kept in ends.items() if place[0] == name]
        found.append(_listed(settings, name, topic, offsets))
    return found


def declared_topic(settings: Settings, name: str) -> str:
    """The physical name of a topic of the registry, given by this or by its logical one. Raises UnknownTopic."""
    declared = [topic.name for topic in all_topics()]
    if name in declared:
        return settings.named(name)
    if name in map(settings.named, declared):
        return name
    raise unknown_topic(name, declared)


def any_topic(settings: Settings, admin: AdminClient, name: str) -> tuple[str, list[int]]:
    """The physical name of a topic that the broker has, ours or not, and its partitions.

    One of ours may be named by its logical name. Blocking. Raises UnknownTopic and KafkaException.
    """
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    for physical in (settings.named(name), name):
        if physical in metadata:
            return physical, sorted(metadata[physical].partitions)
    declared = {topic.name for topic in all_topics()}
    if name in declared:
        raise UnknownTopic(f"the topic {name!r} does not exist yet; `headrace setup` creates it")
    raise unknown_topic(name, sorted(declared | {one for one in metadata if not one.startswith("__")}))


def unknown_topic(name: str, known: Iterable[str]) -> UnknownTopic:
    """The error that there is no such topic, with near names."""
    near = difflib.get_close_matches(name, list(known), 3, 0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UnknownTopic(f"there is no topic {name[:200]!r}; {hint}`headrace topics` lists them")


def _listed(settings: Settings, name: str, topic: Topic, offsets: list[PartitionEnds]) -> ListedTopic:
    dataset, _, kind = topic.name.rpartition(".")
    return ListedTopic(
        name=name,
        dataset=dataset or None,
        partitions=len(offsets),
        written=sum(one.end for one in offsets),
        kept=sum(one.end - one.first for one in offsets),
        kept_hours=retention_hours(topic, settings),
        offsets=offsets,
        cleanup_policy=topic.cleanup_policy,
        carries=topic.carries,
        description=topic.description,
        written_by=topic.written_by,
        read_by=list(topic.read_by),
        key=topic.key,
        value=topic.value.__name__ if topic.value else "the source's bytes",
        version=topic.version,
        example=msgspec.json.decode(topic.example) if topic.example else None,
        takes_test_records=kind == "raw",
    )
