"""Looks into topics as people do: the newest messages, those from a place on, those of one key. Outside of any group.

Bounded in bytes and time; what a look covered, and why it ended before its beginning, is told with what it found.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runtime.kafka.clients import READ_COMMITTED, close_consumer, connection_config
from runtime.kafka.message_headers import Headers, message_headers
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS, Place, list_offsets
from runtime.settings import Settings

FIRST_WINDOW = 500
LONGEST_WINDOW = 100_000
"""Offsets that one step back reads over."""

POLL_SECONDS = 0.1
BATCH_RECORDS = 1000
MURMUR_MASK = 0x7FFFFFFF


@dataclass(frozen=True)
class TopicMessage:
    """A message as it lies in its topic. `timestamp` is in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts messages of several partitions by their time."""
        return self.timestamp, self.partition, self.offset


LATEST_MS = 253_402_300_799_000
"""The end of the year 9999, beyond which Python has no dates. A producer may give any number."""


def at_ms(ms: int) -> datetime:
    """The time of a broker's or a client's timestamp; from 1970 to 9999, whatever it is. Pure."""
    return datetime.fromtimestamp(min(max(0, ms), LATEST_MS) / 1000, UTC)


@dataclass
class Budget:
    """Bounds of one look; counted down by it."""

    seconds: float
    bytes: int
    _began: float = field(default_factory=time.monotonic)
    read: int = 0

    def spent(self) -> str | None:
        """The part that is used up, in words; None while there is something left."""
        if self.read >= self.bytes:
            return f"{self.bytes:,} bytes were read"
        if time.monotonic() - self._began >= self.seconds:
            return f"{self.seconds:g} s were over"
        return None


@dataclass
class Look:
    """The messages that were found, newest first, and the half-open range of offsets that was looked at, by place."""

    messages: list[TopicMessage] = field(default_factory=list)
    looked: dict[Place, tuple[int, int]] = field(default_factory=dict)
    stopped: str | None = None
    """Why it ended before it had seen all that it was to look through; None if it did not."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition in which the messages of a key lie, by the rule of Java's clients, which is that of ours. Pure."""
    from aiokafka.partitioner import murmur2  # here, since aiokafka takes long to load

    return int((murmur2(key) & MURMUR_MASK) % partitions)


def bounds(admin: AdminClient, places: list[Place]) -> dict[Place, tuple[int, int]]:
    """The first offset that is kept, and the last stable one, of each place. Blocking. Raises KafkaException."""
    wanted = [TopicPartition(*place) for place in places]
    first = list_offsets(admin, {place: OffsetSpec.earliest() for place in wanted})  # type: ignore[no-untyped-call]
    last = list_offsets(admin, {place: OffsetSpec.latest() for place in wanted})  # type: ignore[no-untyped-call]
    return {(p.topic, p.partition): (first[p], max(first[p], last[p])) for p in wanted}


def offsets_at(admin: AdminClient, places: list[Place], ms: int) -> dict[Place, int]:
    """The first offset of each place with a timestamp of `ms` or later; -1 where there is none. Raises KafkaException.

    Blocking.
    """
    wanted = {TopicPartition(*place): OffsetSpec.for_timestamp(ms) for place in places}
    return {(p.topic, p.partition): offset for p, offset in list_offsets(admin, wanted).items()}


@contextmanager
def browser(settings: Settings) -> Iterator[Consumer]:
    """A consumer that is only assigned partitions: it commits nothing, and the broker hears of no group.

    Blocking. Raises KafkaException.
    """
    consumer = Consumer(
        {
            **connection_config(settings),
            "group.id": settings.named("browse"),  # librdkafka wants one, and never tells the broker
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 8_192,
            "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": 1_048_576,
            "fetch.wait.max.ms": 10,
            **READ_COMMITTED,
        }
    )
    try:
        # With all leaders known a look at one more topic begins at once, not at librdkafka's next turn, a second later.
        consumer.list_topics(timeout=REQUEST_TIMEOUT_SECONDS)
        yield consumer
    finally:
        close_consumer(consumer)


Wanted = Callable[[TopicMessage], bool]


def newest(
    consumer: Consumer,
    within: Mapping[Place, tuple[int, int]],
    count: int,
    budget: Budget,
    wanted: Wanted | None = None,
) -> Look:
    """The newest `count` wanted messages of all these ranges of offsets. Blocking. Raises KafkaException.

    Reads back from the ends in steps that grow, until each place has given so many or has been looked through.
    """
    look = Look(looked={place: (end, end) for place, (_, end) in within.items()})
    found: dict[Place, int] = dict.fromkeys(within, 0)
    window = count if wanted is None else max(FIRST_WINDOW, count)
    while look.stopped is None:
        steps = {
            place: (max(within[place][0], begin - window), begin)
            for place, (begin, _) in look.looked.items()
            if begin > within[place][0] and found[place] < count
        }
        if not steps:
            break
        reading = Reading(consumer, steps, budget)
        for message in reading:
            if wanted is None or wanted(message):
                look.messages.append(message)
                found[message.topic, message.partition] += 1
        for place, (begin, _) in steps.items():
            look.looked[place] = begin, look.looked[place][1]
        look.stopped = reading.cut_short()
        look.messages = sorted(look.messages, key=lambda one: one.order, reverse=True)[:count]
        window = min(LONGEST_WINDOW, window * 4)
    return look


def onward(
    consumer: Consumer,
    within: Mapping[Place, tuple[int, int]],
    count: int,
    budget: Budget,
    wanted: Wanted | None = None,
) -> Look:
    """The first `count` wanted messages of these ranges, by time; the newest of them first. Blocking.

    Raises KafkaException.
    """
    look, found = Look(), dict.fromkeys(within, 0)
    reading = Reading(consumer, within, budget)
    for message in reading:
        if wanted is None or wanted(message):
            look.messages.append(message)
            place = message.topic, message.partition
            found[place] += 1
            if found[place] >= count:
                reading.leave(place)
    look.looked = {place: (begin, reading.positions[place]) for place, (begin, _) in within.items()}
    look.stopped = reading.cut_short()
    look.messages = sorted(look.messages, key=lambda one: one.order)[:count][::-1]
    return look


def follow(consumer: Consumer, starts: Mapping[Place, int]) -> Iterator[TopicMessage]:
    """Messages as they come, from these offsets on. Endless; blocks between them. Raises KafkaException."""
    places = [TopicPartition(*place, start) for place, start in starts.items()]
    consumer.assign(places)
    consumer.resume(places)  # a partition that a reading has paused would stay so
    while True:
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            continue
        if (error := message.error()) is None:
            yield _message(message)
        elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
            raise KafkaException(error)


class Reading:
    """Reads ranges of offsets, all at once, until they are at their ends or the budget is spent. Iterate it once."""

    def __init__(self, consumer: Consumer, ranges: Mapping[Place, tuple[int, int]], budget: Budget) -> None:
        self.positions = {place: begin for place, (begin, _) in ranges.items()}
        """Of each place, the offset behind what was read, records or none."""
        self._consumer = consumer
        self._budget = budget
        self._remaining = {place: end for place, (begin, end) in ranges.items() if begin < end}

    def __iter__(self) -> Iterator[TopicMessage]:
        """Raises KafkaException."""
        if not self._remaining:
            return
        places = [TopicPartition(*place, self.positions[place]) for place in self._remaining]
        self._consumer.assign(places)
        self._consumer.resume(places)  # a partition that an earlier reading has paused would stay so
        while self._remaining and self._budget.spent() is None:
            for message in _arrived(self._consumer):
                if self._budget.read >= self._budget.bytes:
                    break
                if (one := self._take(message)) is not None:
                    yield one

    def leave(self, place: Place) -> None:
        """Read no more of this place: it has given enough."""
        if self._remaining.pop(place, None) is not None:
            self._consumer.pause([TopicPartition(*place)])

    def cut_short(self) -> str | None:
        """Why it ended before the ends of its ranges, and what was not read; None if it was not."""
        if not self._remaining:
            return None
        (topic, partition), end = next(iter(self._remaining.items()))
        rest = f"offsets {self.positions[topic, partition]} to {end - 1} of {topic}/{partition} were not looked at"
        more = f", nor some of {len(self._remaining) - 1} other partitions" if len(self._remaining) > 1 else ""
        return f"{self._budget.spent()}: {rest}{more}"

    def _take(self, message: Message) -> TopicMessage | None:
        place = cast("str", message.topic()), cast("int", message.partition())
        if (error := message.error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
                raise KafkaException(error)
            self._finish(place)
            return None
        if (end := self._remaining.get(place)) is None:
            return None
        offset = cast("int", message.offset())
        if offset >= end:  # what lay between carried no record
            self._finish(place)
            return None
        one = _message(message)
        self._budget.read += len(one.value or b"") + len(one.key or b"")
        self.positions[place] = offset + 1
        if offset + 1 == end:
            self._finish(place)
        return one

    def _finish(self, place: Place) -> None:
        if (end := self._remaining.get(place)) is not None:
            self.positions[place] = end
            self.leave(place)


def _message(message: Message) -> TopicMessage:
    place = cast("str", message.topic()), cast("int", message.partition()), cast("int", message.offset())
    return TopicMessage(*place, message.timestamp()[1], message.key(), message.value(), message_headers(message))


def _arrived(consumer: Consumer) -> list[Message]:
    """Wait for one message and return all that have come: `consume` with a timeout would wait for a full batch."""
    first = consumer.poll(POLL_SECONDS)
    return [first, *consumer.consume(BATCH_RECORDS, 0)] if first is not None else []
