"""Goes on where the log begins when the place of the normalizer is not in it any more, and says what that means.

aiokafka can go to the earliest offset by itself, silently: records that retention has taken would be missed without a
word, and Faust would drop what comes again in a log that was cut off, until the old place is reached.
"""

from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

log = structlog.get_logger()

RESET = "none"
"""aiokafka's setting with which it raises instead."""

LOST = (OffsetOutOfRangeError, NoOffsetForPartitionError)


class LogCutOff(Exception):
    """A partition ends before the place that the group has in it. The process must start again, at its first record."""


async def begin_again(consumer: AIOKafkaConsumer, error: Exception) -> None:
    """Send the consumer to the first record of the partition that it lost its place in. On the consumer's event loop.

    `error` is one of LOST.

    Raises LogCutOff when the log is shorter than it was. By then the group's place is the first record, in every
    partition of that topic that is held: where it was deleted and created again, the others are no further than this
    one, however many new records they have. What is read twice changes nothing.
    """
    if isinstance(error, NoOffsetForPartitionError):
        await consumer.seek_to_beginning(error.args[0])  # the group's first look at it
        return
    places: dict[TopicPartition, int] = error.args[0]
    begins = await consumer.beginning_offsets(list(places))
    for place, offset in places.items():
        begin, name = begins[place], f"{place.topic}/{place.partition}"
        if begin < offset:
            await _rewind(consumer, place.topic)
            raise LogCutOff(f"{name} ends before {offset}, up to which all was done: it is read again from {begin} on")
        log.warning(
            "records_gone",
            partition=name,
            begin=offset,
            end=begin,
            consequence="retention has taken these offsets before they were normalized; `headrace audit` counts them",
        )
        consumer.seek(place, begin)


async def _rewind(consumer: AIOKafkaConsumer, topic: str) -> None:
    begins = await consumer.beginning_offsets([place for place in consumer.assignment() if place.topic == topic])
    await consumer.commit({place: OffsetAndMetadata(begin, "") for place, begin in begins.items()})


async def seek_to_places(consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, int | None]:
    """Send the consumer to what is committed in every partition, and to the first record where nothing is.

    aiokafka leaves it where it is where nothing is committed, and it may have read already. Returns what is committed.
    """
    committed: dict[TopicPartition, int | None] = await consumer.seek_to_committed()
    if new := [place for place, offset in committed.items() if not offset]:
        await consumer.seek_to_beginning(*new)
    return committed
