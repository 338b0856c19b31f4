"""Where a run of a Kafka source begins and ends, by partition."""

from typing import Literal, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from producers.source import SourceFailed
from runtime.kafka.clients import reason
from runtime.kafka.deadlines import commit_within

log = structlog.get_logger()

FirstRun = Literal["earliest", "latest"]


class Place(NamedTuple):
    """Offsets: the first to read, and the one after the last."""

    start: int
    end: int


def find_places(
    consumer: Consumer, source: str, topic: str, first: FirstRun, timeout_seconds: float
) -> dict[int, Place]:
    """Where to begin and end in every partition of a topic. Blocking, several times `timeout_seconds` at most.

    Begins at the group's committed offset; without one at `first`. Where the offset does not exist any more, or not
    yet, at the earliest, and the log says what is missing. Raises SourceFailed, KafkaException.
    """
    # Asked without naming the topic: a broker that creates topics on demand would make it.
    found = consumer.list_topics(timeout=timeout_seconds).topics.get(topic)
    if found is None:
        raise SourceFailed(source, f"there is no topic {topic} on that cluster, or we may not see it: check `topic`")
    if found.error is not None:
        raise SourceFailed(source, f"topic {topic}: {reason(found.error)}: check `topic` and `security`")
    wanted = [TopicPartition(topic, partition) for partition in found.partitions]
    places, new = {}, []
    for committed in consumer.committed(wanted, timeout=timeout_seconds):
        if committed.error is not None:
            raise KafkaException(committed.error)
        low, high = consumer.get_watermark_offsets(committed, timeout=timeout_seconds)
        start = _start(source, committed, first, low, high)
        places[committed.partition] = Place(start, high)
        if committed.offset < 0 and first == "latest":
            new.append(TopicPartition(topic, committed.partition, start))
    if new:
        # Kept at once: otherwise each run would begin at what is the end by then, and never read anything.
        commit_within(consumer, new)
    return places


def _start(source: str, committed: TopicPartition, first: FirstRun, low: int, high: int) -> int:
    if committed.offset < 0:
        return low if first == "earliest" else high
    if low <= committed.offset <= high:
        return committed.offset
    what = (
        f"{low - committed.offset} records are gone by retention"
        if committed.offset < low
        else "the topic was made anew since"
    )
    log.warning("kafka_source_gap", source=source, partition=committed.partition, reason=what, starts_at=low)
    return low
