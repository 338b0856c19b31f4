"""Reads single raw records back from their topics, by coordinates, as long as the broker keeps them."""

import time
from collections.abc import Iterable
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.errors import DeliveryFailed
from runtime.kafka_clients import QUIET, reason
from runtime.settings import Settings

Coordinates = tuple[str, int, int]
"""Physical topic, partition, offset."""

READ_SECONDS = 20.0
ANSWER_SECONDS = 10.0

NEAR_RECORDS = 2_000
"""Reading over so many records costs less than another seek, which throws away what has been fetched."""

BATCH_RECORDS = 500
POLL_SECONDS = 0.2


class RawMessage(NamedTuple):
    """A raw record as it lies in its topic. `timestamp` is the broker's, in ms since the epoch."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int


class RawLookup:
    """One consumer outside of any group: it commits nothing and disturbs nobody. Connects on first use; close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Consumer | None = None

    def read(self, wanted: Iterable[Coordinates]) -> dict[Coordinates, RawMessage]:
        """What is still there of the wanted records. Blocking. Raises DeliveryFailed when Kafka does not answer."""
        try:
            return self._read(sorted(set(wanted)))
        except KafkaException as error:
            address = self._settings.kafka_bootstrap_servers
            raise DeliveryFailed(
                f"cannot read raw records from Kafka at {address}: {reason(error)}; `headrace status` says what is down"
            ) from error

    def close(self) -> None:
        """Close the consumer. Idempotent."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _read(self, wanted: list[Coordinates]) -> dict[Coordinates, RawMessage]:
        consumer = self._consumer = self._consumer or Consumer(
            {
                "bootstrap.servers": self._settings.kafka_bootstrap_servers,
                "group.id": self._settings.named("failure-lookup"),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 16_384,
                "fetch.wait.max.ms": 10,
                "log_level": QUIET,
            }
        )
        remaining = self._kept(consumer, wanted)
        found: dict[Coordinates, RawMessage] = {}
        deadline = time.monotonic() + READ_SECONDS
        consumer.assign([TopicPartition(*place, offsets[0]) for place, offsets in remaining.items()])
        # A partition that an earlier read has paused would stay so.
        consumer.resume([TopicPartition(*place) for place in remaining])
        while remaining:
            if time.monotonic() > deadline:
                raise DeliveryFailed(
                    f"Kafka gave {len(found)} of {len(wanted)} raw records in {READ_SECONDS:g} s; try again"
                )
            for message in _arrived(consumer):
                place = cast("str", message.topic()), cast("int", message.partition())
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
                        raise KafkaException(error)
                    remaining.pop(place, None)
                    continue
                if (offsets := remaining.get(place)) is None:
                    continue
                offset = cast("int", message.offset())
                # A record between two others may be gone: compacted, or a transaction's marker.
                while offsets and offsets[0] < offset:
                    offsets.pop(0)
                if offsets and offsets[0] == offset:
                    offsets.pop(0)
                    headers = cast("tuple[tuple[str, bytes | None], ...]", tuple(message.headers() or ()))
                    found[*place, offset] = RawMessage(message.key(), message.value(), headers, message.timestamp()[1])
                if not offsets:
                    del remaining[place]
                    consumer.pause([TopicPartition(*place)])
                elif offsets[0] > offset + NEAR_RECORDS:
                    consumer.seek(TopicPartition(*place, offsets[0]))
        return found

    def _kept(self, consumer: Consumer, wanted: list[Coordinates]) -> dict[tuple[str, int], list[int]]:
        by_place: dict[tuple[str, int], list[int]] = {}
        for topic, partition, offset in wanted:
            by_place.setdefault((topic, partition), []).append(offset)
        kept = {}
        topics = consumer.list_topics(timeout=ANSWER_SECONDS).topics
        for (topic, partition), offsets in by_place.items():
            if topic not in topics or partition not in topics[topic].partitions:
                continue
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_SECONDS)
            if there := [offset for offset in offsets if low <= offset < high]:
                kept[topic, partition] = there
        return kept


def _arrived(consumer: Consumer) -> list[Message]:
    """What is there, after waiting for the first of it: `consume` with a timeout would wait for a full batch."""
    first = consumer.poll(POLL_SECONDS)
    return [first, *consumer.consume(BATCH_RECORDS, 0)] if first is not None else []
