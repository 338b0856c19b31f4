"""Reads single raw records back from their topics, by coordinates, as long as the broker keeps them."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import TopicMetadata

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import READ_COMMITTED, close_consumer, connection_config, reason
from runtime.kafka.message_headers import Headers, message_headers
from runtime.settings import Settings

Coordinates = tuple[str, int, int]
"""Physical topic, partition, offset."""

READ_SECONDS = 20.0
ANSWER_SECONDS = 10.0

MOST_BYTES = 134_217_728
"""Limit of one reading: whoever asks for thousands of records of 5 MB must not fill the memory with them."""

NEAR_RECORDS = 2_000
"""Reading over so many records costs less than another seek, which throws away what has been fetched."""

BATCH_RECORDS = 500
POLL_SECONDS = 0.2


_PERMANENT = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}

Places = dict[tuple[str, int], list[int]]
"""Offsets by physical topic and partition, ascending."""


class RawMessage(NamedTuple):
    """A raw record as it lies in its topic. `timestamp` is the broker's, in ms since the epoch."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class RawLookup:
    """One consumer outside of any group: it commits nothing and disturbs nobody. Connects on first use; close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Consumer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def read(self, wanted: Iterable[Coordinates]) -> dict[Coordinates, RawMessage]:
        """The wanted records that are still there. Blocking. Raises DeliveryFailed if one cannot be read."""
        found, problem = self.read_some(wanted)
        if problem is not None:
            raise DeliveryFailed(f"{problem}; try again")
        return found

    def read_some(self, wanted: Iterable[Coordinates]) -> tuple[dict[Coordinates, RawMessage], str | None]:
        """The wanted records that could be read within READ_SECONDS, and the trouble that kept the others back.

        No such problem means that the topics hold no more of them. Blocking. Raises DeliveryFailed when Kafka does not
        answer at all.
        """
        asked = set(wanted)
        found: dict[Coordinates, RawMessage] = {}
        consumer = self._opened()
        deadline = time.monotonic() + READ_SECONDS
        try:
            while True:
                topics = consumer.list_topics(timeout=ANSWER_SECONDS).topics
                try:
                    remaining = _readable(consumer, asked - found.keys(), topics)
                    problem = _read(consumer, remaining, found, deadline)
                    break
                except KafkaException as error:
                    problem = f"Kafka does not give the raw records: {reason(error)}"
                    # Anything else may pass: a broker that has just come back knows no partitions for a moment.
                    if error.args[0].code() in _PERMANENT or time.monotonic() > deadline:
                        break
                    time.sleep(POLL_SECONDS)
            if problem is not None:
                consumer.unassign()
                consumer.list_topics(timeout=ANSWER_SECONDS)  # was it Kafka that went away?
        except KafkaException as error:
            # It may be the client that has lost its brokers for good: see LastingAdmin.
            self._consumer = None
            close_consumer(consumer, 0)
            address = self._settings.kafka_bootstrap_servers
            raise DeliveryFailed(
                f"cannot read raw records from Kafka at {address}: {reason(error)}; `headrace status` says what is down"
            ) from error
        return found, problem

    def close(self) -> None:
        """Close the consumer. Idempotent."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _opened(self) -> Consumer:
        self._consumer = self._consumer or Consumer(
            {
                **connection_config(self._settings),
                "group.id": self._settings.named("failure-lookup"),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 16_384,
                "fetch.wait.max.ms": 10,
                **READ_COMMITTED,
            }
        )
        return self._consumer


def _readable(consumer: Consumer, wanted: Iterable[Coordinates], topics: Mapping[str, TopicMetadata]) -> Places:
    """The wanted offsets that the log still has. Raises KafkaException."""
    places: Places = {}
    for topic, partition, offset in sorted(wanted):
        if topic in topics and partition in topics[topic].partitions:
            places.setdefault((topic, partition), []).append(offset)
    for place, offsets in list(places.items()):
        low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=ANSWER_SECONDS)
        places[place] = [offset for offset in offsets if low <= offset < high]
    return {place: offsets for place, offsets in places.items() if offsets}


def _read(consumer: Consumer, remaining: Places, found: dict[Coordinates, RawMessage], deadline: float) -> str | None:
    """Read all that remains into `found`. Returns what kept it from that, if anything. Raises KafkaException."""
    wanted = len(found) + sum(map(len, remaining.values()))
    size = sum(len(message.value or b"") for message in found.values())
    consumer.assign([TopicPartition(*place, offsets[0]) for place, offsets in remaining.items()])
    # A partition that an earlier read has paused would stay so.
    consumer.resume([TopicPartition(*place) for place in remaining])
    while remaining:
        if time.monotonic() > deadline:
            return f"Kafka gave {len(found)} of {wanted} raw records in {READ_SECONDS:g} s"
        if size > MOST_BYTES:
            return f"{len(found)} of {wanted} raw records are more than {MOST_BYTES:,} bytes"
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
                found[*place, offset] = RawMessage(
                    message.key(), message.value(), message_headers(message), message.timestamp()[1]
                )
                size += len(message.value() or b"")
            if not offsets:
                del remaining[place]
                consumer.pause([TopicPartition(*place)])
            elif offsets[0] > offset + NEAR_RECORDS:
                consumer.seek(TopicPartition(*place, offsets[0]))
    return None


def _arrived(consumer: Consumer) -> list[Message]:
    """Wait for one message and return all that have come: `consume` with a timeout would wait for a full batch."""
    first = consumer.poll(POLL_SECONDS)
    return [first, *consumer.consume(BATCH_RECORDS, 0)] if first is not None else []
