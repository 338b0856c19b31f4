"""Messages as people want to see them: of a partition, a key, a moment. Blocking, and bounded in bytes and time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from runtime.kafka.browse import (
    Budget,
    Look,
    TopicMessage,
    Wanted,
    bounds,
    browser,
    follow,
    newest,
    offsets_at,
    onward,
    partition_of,
)
from runtime.kafka.topic_admin import Place
from runtime.moments import moment
from runtime.settings import Settings
from schemas.registry import all_datasets
from services.topics.listing import any_topic
from services.topics.shown import ShownMessage, shown

PEEK_SECONDS = 5.0
PEEK_BYTES = 33_554_432

MOST_MESSAGES = 100
USUAL_MESSAGES = 10

LARGEST_OFFSET = 2**63 - 1


class WrongPeek(ValueError):
    """A value of the question is wrong: `parameter` names it, the message says what is expected."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True)
class PeekQuestion:
    """The messages to look at. Without `start` the newest `limit` messages."""

    topic: str
    partition: int | None = None
    key: str | None = None
    start: str | None = None
    """`-10`: the newest ten. `1234`: from that offset on. `30m`, or a time in ISO 8601: from then on."""
    limit: int = USUAL_MESSAGES
    masked: bool = False
    """Personal data is not shown."""


@dataclass(frozen=True)
class LookedRange:
    """The offsets from `first` up to `end`, which is not among them, were looked at, of what the partition keeps."""

    partition: int
    first: int
    end: int
    kept_from: int
    kept_to: int


@dataclass(frozen=True)
class Peeked:
    """Messages, newest first."""

    topic: str
    key: str | None
    """In the normal form in which it was looked for."""
    messages: list[ShownMessage]
    looked: list[LookedRange]
    stopped: str | None
    """Why the look ended before it had found all that was asked for; None if it did not."""


def peek(settings: Settings, admin: AdminClient, question: PeekQuestion) -> Peeked:
    """The messages that the question asks for. Raises UnknownTopic, WrongPeek and KafkaException."""
    topic, places, key = _places(settings, admin, question)
    count, offset, since = _start(question)
    kept = bounds(admin, places)
    within = dict(kept)
    if since is not None:
        at = offsets_at(admin, places, round(since.timestamp() * 1000))
        within = {place: (at[place] if at[place] >= 0 else end, end) for place, (_, end) in kept.items()}
    elif offset is not None:
        within = {place: (min(max(first, offset), end), end) for place, (first, end) in kept.items()}
    wanted = None if key is None else _of_key(key)
    budget = Budget(PEEK_SECONDS, PEEK_BYTES)
    with browser(settings) as consumer:
        read = newest if count is not None else onward
        look = read(consumer, within, question.limit if count is None else count, budget, wanted)
    return _peeked(settings, topic, key, look, kept, masked=question.masked)


def follow_topic(settings: Settings, admin: AdminClient, question: PeekQuestion) -> Iterator[ShownMessage]:
    """Messages as they come, from now on or from the question's start on. Endless.

    Raises UnknownTopic, WrongPeek and KafkaException.
    """
    topic, places, key = _places(settings, admin, question)
    kept = bounds(admin, places)
    starts = {place: end for place, (_, end) in kept.items()}
    count, offset, since = _start(question)
    if since is not None:
        at = offsets_at(admin, places, round(since.timestamp() * 1000))
        starts = {place: at[place] if at[place] >= 0 else end for place, end in starts.items()}
    elif offset is not None:
        starts = {place: min(max(kept[place][0], offset), end) for place, end in starts.items()}
    with browser(settings) as consumer:
        if count is not None and question.start is not None:
            budget = Budget(PEEK_SECONDS, PEEK_BYTES)
            look = newest(consumer, kept, count, budget, None if key is None else _of_key(key))
            yield from (shown(settings, topic, one, masked=question.masked) for one in reversed(look.messages))
        for message in _followed(consumer, starts, key):
            yield shown(settings, topic, message, masked=question.masked)


def _followed(consumer: Consumer, starts: Mapping[Place, int], key: str | None) -> Iterator[TopicMessage]:
    wanted = None if key is None else _of_key(key)
    return (message for message in follow(consumer, starts) if wanted is None or wanted(message))


def _of_key(key: str) -> Wanted:
    encoded = key.encode("utf-8", "surrogatepass")
    return lambda message: message.key == encoded


def normal_key(settings: Settings, topic: str, key: str) -> str:
    """The key under which messages of a physical topic lie that were sent with this one. Pure.

    Of another topic than a dataset's, and of what no record can have as its key, that is the key as it is.
    """
    for dataset in all_datasets():
        if topic in map(settings.named, (dataset.raw_topic, dataset.clean_topic, dataset.changed_topic)):
            try:
                return dataset.normal_key(key)
            except ValueError:
                return key
    return key


def _places(settings: Settings, admin: AdminClient, question: PeekQuestion) -> tuple[str, list[Place], str | None]:
    """The topic, the partitions to look at, and the key in its normal form."""
    topic, partitions = any_topic(settings, admin, question.topic)
    if question.partition is not None and question.partition not in partitions:
        raise WrongPeek("partition", f"{topic} has the partitions 0 to {len(partitions) - 1}")
    if question.key is None:
        chosen = partitions if question.partition is None else [question.partition]
        return topic, [(topic, partition) for partition in chosen], None
    key = normal_key(settings, topic, question.key)
    partition = question.partition
    if partition is None:
        partition = partition_of(key.encode("utf-8", "surrogatepass"), len(partitions))
    return topic, [(topic, partition)], key


def _start(question: PeekQuestion) -> tuple[int | None, int | None, datetime | None]:
    """The number of the newest ones, or the offset, or the moment from which on."""
    text = question.start
    if text is None:
        return question.limit, None, None
    number = text.strip()
    if number.removeprefix("-").isascii() and number.removeprefix("-").isdigit():
        if len(number) > 20 or int(number) > LARGEST_OFFSET:
            raise WrongPeek("from", f"{number[:40]}: no offset is so large")
        if not number.startswith("-"):
            return None, int(number), None
        count = -int(number)
        if not 1 <= count <= MOST_MESSAGES:
            raise WrongPeek("from", f"{number}: at most {MOST_MESSAGES} of the newest messages are shown at once")
        return count, None, None
    try:
        return None, None, moment(number, datetime.now(UTC))
    except ValueError as error:
        raise WrongPeek("from", f"{error}; or -10 for the newest ten, or an offset") from None


def _peeked(
    settings: Settings, topic: str, key: str | None, look: Look, kept: Mapping[Place, tuple[int, int]], *, masked: bool
) -> Peeked:
    messages = [shown(settings, topic, message, masked=masked) for message in look.messages]
    looked = [LookedRange(place[1], *look.looked[place], *kept[place]) for place in sorted(look.looked)]
    return Peeked(topic, key, messages, looked, look.stopped)
