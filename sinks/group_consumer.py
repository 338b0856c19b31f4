"""A member of a consumer group: polls, pauses and commits. Blocking; to be called from threads."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runtime.kafka.clients import CLOSE_SECONDS, COMMIT_SECONDS, close_consumer, consumer_config
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from sinks.gone_records import GoneRecords, Tell
from sinks.sink import Message

log = structlog.get_logger()

Offsets = dict[tuple[str, int], int]
"""Per (physical topic, partition), the next offset to read."""

# The group has moved on without us: what we wanted to commit comes again to somebody, and changes nothing then.
_LOST_PLACE = {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 (librdkafka's own codes begin with an underscore)
}

REJOIN_SECONDS = 60.0
"""A member that has asked for partitions, or for where it was in them, and hears nothing for so long joins once more if
the broker answers: after one was away, librdkafka (2.16) may wait for ever for what it has asked."""

ANSWER_SECONDS = 2.0

ASK_AGAIN_SECONDS = 5.0
"""Pause after a broker has not answered such a member."""

FENCES = 5
FENCES_WITHIN_SECONDS = 60.0
"""A group coordinator that fails over can take a member for its own double, now and then. One that is fenced so often
in so short a time has a real double."""


BUSY_RECORDS_PER_SECOND = 3_000
"""From here on a batch waits as long as it may for more: a larger one costs less per record. Below it waits less, and
what comes alone does not wait at all."""

RATE_SECONDS = 0.5
"""The rate is that of about so long, so that it outlasts the pauses between the batches of the stage before."""

PATIENT_BYTES = 1_000_000
"""The broker answers a patient consumer at once where it has so many. Every answer costs it as much as some records."""


class Polled(NamedTuple):
    """Messages in order of arrival per partition, and where that leaves off."""

    messages: list[Message]
    offsets: Offsets
    """To be committed once all before them is done.

    They may lie behind the last message, and be there without one: where transaction markers or aborted records follow.
    """
    without: frozenset[str]
    """The physical topics that were set aside."""


class GroupConsumer:
    """A consumer that keeps its place in the group whatever its store does.

    Any thread may call it, and one may commit while another polls. A commit is answered only while somebody polls: the
    client runs one call at a time (confluent-kafka since 2.16), and a commit that waited inside it would keep out the
    poll that a move of the coordinator needs.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: Iterable[str],
        gone: Tell = lambda *_: None,
        patience_ms: int = 0,
    ) -> None:
        self._settings = settings
        self._gone = GoneRecords(gone)
        self._config = consumer_config(
            settings,
            group,
            error_cb=lambda error: self._trouble("client", error.str()),
            on_commit=self._on_commit,
            **({"fetch.wait.max.ms": patience_ms, "fetch.min.bytes": PATIENT_BYTES} if patience_ms else {}),
            # The only way to learn that markers of transactions, or aborted records, lie behind the last record.
            **{"enable.partition.eof": True},
        )
        self._topics = [settings.named(topic) for topic in topics]
        self._batch_records = settings.sink_batch_records
        self._batch_bytes = settings.sink_batch_bytes
        self._batch_seconds = settings.sink_batch_wait_ms / 1000
        self._patience_seconds = patience_ms / 1000
        self._rate = 0.0
        """Records per second of late, as they were polled."""
        self._rated_at = 0.0
        self.backlog = False
        """The last batch was full: more waits."""
        self._consumer: Consumer | None = None
        self._carried: list[Message] = []
        self._behind: Offsets = {}
        self._position: Offsets = {}
        self._uncommitted: Offsets = {}
        self.held = False
        """Partitions are paused, from `hold` to `resume`."""
        self._aside: frozenset[str] = frozenset()
        self._left_at: Offsets = {}
        self._troubles: set[str] = set()
        self._fenced = False
        self._stranded = False
        self._joined = False
        """The group has told which partitions are ours, and has taken none away since."""
        self._unheard: set[tuple[str, int]] = set()
        """Partitions that were given and have brought neither a record nor their end since."""
        self._silent_since: float | None = None
        """Since when every poll has brought nothing, while the group or a partition owes an answer."""
        self._given: list[TopicPartition] = []
        self._fences: list[float] = []
        self._polling = threading.Lock()
        self._committing = threading.Lock()
        self._rewound = False
        self._closing = False
        self._poll_began = 0.0
        self._awaited: Offsets = {}
        self._answer: queue.SimpleQueue[list[KafkaError]] = queue.SimpleQueue()
        self.assigned: tuple[tuple[str, int], ...] = ()
        self.reading = False
        """It has joined the group, and each partition that it was given then has answered."""

    def open(self) -> None:
        self._consumer = Consumer(self._config)
        self._consumer.subscribe(
            self._topics, on_assign=self._on_change, on_revoke=self._on_lost, on_lost=self._on_lost
        )

    def poll(self, without: frozenset[str] = frozenset(), seconds: float | None = None) -> Polled:
        """The next batch; empty if nothing came within so long, by default the batch's waiting time.

        What has come is taken at once, and more is waited for only while records come fast, or for the patience of this
        consumer. A batch is full with `sink_batch_records`, or with about `sink_batch_bytes`.

        It holds nothing of the physical topics `without`. What is no longer among them comes from where it was left.
        """
        with self._polling:
            self._set_aside(without)
            messages, self._carried = self._carried, []
            until = time.monotonic() + (self._batch_seconds if seconds is None else seconds)
            while not messages and not self._behind and (left := until - time.monotonic()) > 0:
                messages = self._consume(1, left)
            self._fill_up(messages)
            offsets, self._behind = self._behind, {}
            return Polled(messages, offsets, without)

    def leave(self, offsets: Offsets) -> None:
        """Note from where to read on, in topics that are set aside, what was polled and could not be written."""
        with self._polling:
            for place, offset in offsets.items():
                self._left_at[place] = min(offset, self._left_at.get(place, offset))

    def hold(self, seconds: float) -> None:
        """Poll while nothing is wanted, to keep the place in the group: partitions are paused, nothing is lost."""
        with self._polling:
            # Also those assigned since the last call. What was on its way before the pause is kept for the next batch.
            if assignment := self._open_consumer().assignment():
                self._open_consumer().pause(assignment)
            self.held = True
            self._carry(self._batch_records, seconds)

    def resume(self) -> None:
        """Let messages come again after `hold`."""
        with self._polling:
            if self.held:
                self.held = False
                if assignment := [one for one in self._open_consumer().assignment() if one.topic not in self._aside]:
                    self._open_consumer().resume(assignment)

    def take_answers(self) -> None:
        """Poll for what the broker has answered to commits; a message that comes along is kept for the next batch."""
        with self._polling:
            self._carry(1, 0)

    def commit(self, offsets: Offsets) -> bool:
        """Commit these and whatever an earlier call could not; False if the broker is away: call again.

        Offsets of partitions that the group has given to somebody else are dropped.
        """
        with self._committing:
            return self._rewound or self._commit(offsets)

    def rewind(self, topics: Collection[str]) -> None:
        """Commit the first offset of every partition of these physical topics that is assigned, and none after it.

        For a process that is to end: what it has in hand is not committed any more. Raises KafkaException.
        """
        with self._committing:
            self._rewound = True
            if places := {place: 0 for place in self.assigned if place[0] in topics}:
                for error in self._ask(places):
                    raise KafkaException(error)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Leave, and wait for that no longer than this, since it may hang while the broker is away.

        The partitions of a static member wait for its return until the session times out.
        """
        self._closing = True
        if self._consumer is not None:
            close_consumer(self._consumer, seconds)

    def _fill_up(self, messages: list[Message]) -> None:
        """Add what has come, and what comes within the waiting time, which is longer while records come fast."""
        size = sum(map(len, messages))
        seconds = self._batch_seconds * min(1.0, self._rate / BUSY_RECORDS_PER_SECOND) ** 2
        until = time.monotonic() + max(seconds, self._patience_seconds)
        while messages and len(messages) < self._batch_records and size < self._batch_bytes:
            of_that_size = 1 + (self._batch_bytes - size) * len(messages) // max(size, 1)
            left = max(0.0, until - time.monotonic())
            more = self._consume(min(of_that_size, self._batch_records - len(messages)), left)
            if not (more or left):
                break
            messages += more
            size += sum(map(len, more))
        self.backlog = len(messages) >= self._batch_records or size >= self._batch_bytes
        now = time.monotonic()
        self._rate = self._rate * math.exp((self._rated_at - now) / RATE_SECONDS) + len(messages) / RATE_SECONDS
        self._rated_at = now

    def _set_aside(self, topics: frozenset[str]) -> None:
        back, self._aside = self._aside - topics, topics
        self._carried = self._without_those_aside(self._carried)
        self._behind = {place: offset for place, offset in self._behind.items() if place[0] not in topics}
        for place in [place for place in self.assigned if place[0] in back]:
            self._position.pop(place, None)
            if (offset := self._left_at.pop(place, None)) is not None:
                self._open_consumer().seek(TopicPartition(*place, offset))
            if not self.held:
                self._open_consumer().resume([TopicPartition(*place)])

    def _without_those_aside(self, messages: list[Message]) -> list[Message]:
        if not self._aside:
            return messages
        kept, places = [], set()
        for message in messages:
            if message.topic() in self._aside:
                place = (message.topic(), message.partition())
                self._left_at.setdefault(place, message.offset())
                places.add(place)
            else:
                kept.append(message)
        if assigned := [TopicPartition(*place) for place in places if place in self.assigned]:
            self._open_consumer().pause(assigned)
        return kept

    def _commit(self, offsets: Offsets) -> bool:
        self._uncommitted |= offsets
        owned = set(self.assigned)
        wanted = {place: offset for place, offset in self._uncommitted.items() if place in owned}
        self._uncommitted = dict(wanted)
        if not wanted:
            return True
        errors = self._ask(wanted)
        if not errors:
            self._troubles.discard("commit")
            self._uncommitted = {}
            return True
        if any(_is_fence(error) for error in errors):
            self._fenced = True
        if self._fenced or self._stranded or any(error.code() in _LOST_PLACE for error in errors):
            log.info("commit_dropped", reason=errors[0].str())
            self._uncommitted = {}
            return True
        self._trouble("commit", errors[0].str())
        return False

    def _ask(self, places: Offsets) -> list[KafkaError]:
        """Commit these and nothing else, and wait for the answer: what went wrong.

        Stranded if a poll that began COMMIT_SECONDS later has not brought one.
        """
        self._awaited, self._answer = places, queue.SimpleQueue()
        try:
            self._open_consumer().commit(
                offsets=[TopicPartition(topic, partition, offset) for (topic, partition), offset in places.items()],
                asynchronous=True,
            )
        except KafkaException as error:
            return [error.args[0]]
        # Not by the clock alone: while a long write is under way nobody polls, and the answer waits for that.
        too_late = time.monotonic() + COMMIT_SECONDS
        while self._poll_began < too_late and not (self._closing or self._fenced or self._stranded):
            with contextlib.suppress(queue.Empty):
                return self._answer.get(timeout=0.1)
        self._stranded = True
        return [KafkaError(KafkaError._TIMED_OUT, f"no answer to a commit within {COMMIT_SECONDS:g} s")]  # noqa: SLF001

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        if {(place.topic, place.partition): place.offset for place in places} == self._awaited:
            troubles = [error] if error else [place.error for place in places if place.error is not None]
            self._answer.put(troubles)

    def _carry(self, count: int, seconds: float) -> None:
        messages = self._consume(count, seconds)  # may take away what was carried of partitions that are lost
        self._carried += messages

    def _consume(self, count: int, seconds: float) -> list[Message]:
        began, messages = time.monotonic(), []
        if self._silent_since is not None and began > self._silent_since + REJOIN_SECONDS:
            self._stranded = self._stranded or self._broker_answers()
            self._silent_since = began + ASK_AGAIN_SECONDS - REJOIN_SECONDS
        if self._fenced or self._stranded:
            self._join_again()
        consumed: list[Message] = self._open_consumer().consume(count, seconds)
        # A partition that was paused when it was taken away is still paused when it is given back.
        given, self._given = [one for one in self._given if one.topic not in self._aside], []
        if given and not self.held:
            self._open_consumer().resume(given)
        for message in consumed:
            error = message.error()
            if error is None:
                messages.append(message)
                self._note_position(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._note_position(message)
            elif _is_fence(error):
                self._fenced = True
            else:
                self._trouble(f"poll:{error.name()}", error.str())
                # Of no topic, so of the whole consumer: it could not ask where it was. librdkafka does not ask again,
                # and never reads those partitions (2.16, its issue 5586).
                self._stranded |= message.topic() is None
        if messages:
            self._troubles &= {"commit"}
        unheard = not self.held and any(topic not in self._aside for topic, _ in self._unheard)
        self.reading |= self._joined and not unheard
        if messages or (self._joined and not unheard):
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = began
        self._poll_began = began
        return self._without_those_aside(messages)

    def _note_position(self, message: Message) -> None:
        """Note that all before a record, or before the end, which comes in its place, has been handed out."""
        place, at_the_end = (message.topic(), message.partition()), message.error() is not None
        position = message.offset() + (not at_the_end)
        if place in self._unheard or self._position.get(place, message.offset()) < message.offset():
            self._gone.look(self._open_consumer(), place, self._position.get(place), message.offset())
        self._unheard.discard(place)
        if place[0] in self._aside:
            self._left_at.setdefault(place, message.offset())
        elif not at_the_end or position > self._position.get(place, 0):
            self._behind[place] = self._position[place] = position

    def _broker_answers(self) -> bool:
        try:
            # By a client of its own: ours may have lost its brokers for good, see LastingAdmin.
            admin_client(self._settings).list_topics(self._topics[0], timeout=ANSWER_SECONDS)
        except KafkaException:
            return False
        return True

    def _join_again(self) -> None:
        """Join as a new member: one that is fenced or stranded does nothing more. What is uncommitted comes again."""
        member = self._config["group.instance.id"]
        if self._fenced:
            self._note_fence(member)
        log.warning("fenced" if self._fenced else "stranded", member=member, consequence="joining the group again")
        with self._committing:
            close_consumer(self._open_consumer(), 0)
            self._carried, self.held, self.assigned = [], False, ()
            self._uncommitted, self._behind, self._position, self._left_at = {}, {}, {}, {}
            self._fenced = self._stranded = False
            self._joined, self._unheard, self._silent_since, self._given = False, set(), None, []
            self.open()

    def _note_fence(self, member: str) -> None:
        now = time.monotonic()
        self._fences = [moment for moment in self._fences if now - moment < FENCES_WITHIN_SECONDS] + [now]
        if len(self._fences) > FENCES:
            raise KafkaException(
                KafkaError(
                    KafkaError.FENCED_INSTANCE_ID,
                    f"another process is in the group as {member}; give each one a WORKER_ID of its own",
                )
            )

    def _on_change(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        places = {(p.topic, p.partition) for p in partitions}
        self._joined = True
        self._unheard |= places
        self._given += partitions
        self.assigned = tuple(sorted(places.union(self.assigned)))
        log.info("partitions_assigned", count=len(partitions), total=len(self.assigned))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return  # one that was left behind closes
        self._joined = False
        gone = {(p.topic, p.partition) for p in partitions}
        self._given = [one for one in self._given if (one.topic, one.partition) not in gone]
        self.assigned = tuple(place for place in self.assigned if place not in gone)
        self._unheard -= gone
        # Their messages in hand come to the new owner; carrying them on here would only write them twice.
        self._carried = [m for m in self._carried if (m.topic(), m.partition()) not in gone]
        for place in gone:
            self._behind.pop(place, None)
            self._position.pop(place, None)
        self._left_at = {place: offset for place, offset in self._left_at.items() if place not in gone}
        log.info("partitions_revoked", count=len(partitions), total=len(self.assigned))

    def _trouble(self, what: str, reason: str) -> None:
        if what not in self._troubles:
            self._troubles.add(what)
            log.warning("kafka_trouble", what=what, reason=reason)

    def _open_consumer(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("open() comes first")
        return self._consumer


def _is_fence(error: KafkaError) -> bool:
    return error.fatal() or error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL)  # noqa: SLF001 (its name)
