"""Reads somebody else's topic from the group's committed offsets to the end as it was when the run began."""

import asyncio
import time
from collections.abc import Sequence
from typing import Literal, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.source import SourceFailed
from runtime.kafka.clients import MAX_MESSAGE_BYTES, READ_COMMITTED, ClientConfig, close_consumer, commit_within, reason

log = structlog.get_logger()

FirstRun = Literal["earliest", "latest"]

BATCH_RECORDS = 2000
POLL_SECONDS = 0.2

QUEUED_KBYTES = 16_384
"""Read ahead of what has been published, at most."""


class Reading:
    """One run's consumer and how far it is. Blocking calls run in threads.

    `config` is librdkafka's way to the cluster, `source` the name for messages.
    """

    def __init__(self, source: str, topic: str, group: str, config: ClientConfig, timeout_seconds: float) -> None:
        self._source = source
        self._topic = topic
        self._group = group
        self._servers = config["bootstrap.servers"]
        self._timeout_seconds = timeout_seconds
        self._trouble: KafkaError | None = None
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._total = 1
        self.remaining: set[int] = set()
        """Partitions that have not been read to their end."""
        self._consumer = Consumer(
            {
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": QUEUED_KBYTES,
                "fetch.message.max.bytes": 1_048_576,
                "receive.message.max.bytes": 2 * MAX_MESSAGE_BYTES,
                "fetch.wait.max.ms": 100,
                **config,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                **READ_COMMITTED,
                "log_level": 0,
                "error_cb": self._note,
            }
        )

    async def begin(self, first: FirstRun) -> None:
        """Find the offsets where each partition begins and ends, and begin.

        Begins at the group's committed offset; without one at `first`. Where the offset does not exist any more, or not
        yet, at the earliest, and the log says what is missing. Raises SourceFailed, KafkaException.
        """
        ranges = await asyncio.to_thread(self._ranges, first)
        self._ends = {partition: end for partition, (_, end) in ranges.items()}
        self._next = {partition: start for partition, (start, end) in ranges.items() if start < end}
        self.remaining = set(self._next)
        self._total = max(1, sum(self._ends[partition] - at for partition, at in self._next.items()))
        self._consumer.assign([TopicPartition(self._topic, p, at) for p, at in self._next.items()])

    def _ranges(self, first: FirstRun) -> dict[int, tuple[int, int]]:
        """The first offset to read of every partition, and the one after the last.

        Blocking, several times `timeout_seconds` at most.
        """
        topic, seconds = self._topic, self._timeout_seconds
        # Asked without naming the topic: a broker that creates topics on demand would make it.
        found = self._consumer.list_topics(timeout=seconds).topics.get(topic)
        if found is None:
            why = f"there is no topic {topic} on that cluster, or we may not see it: check `topic`"
            raise SourceFailed(self._source, why)
        if found.error is not None:
            raise SourceFailed(self._source, f"topic {topic}: {reason(found.error)}: check `topic` and `security`")
        wanted = [TopicPartition(topic, partition) for partition in found.partitions]
        ranges, new = {}, []
        for committed in self._consumer.committed(wanted, timeout=seconds):
            if committed.error is not None:
                raise KafkaException(committed.error)
            low, high = self._consumer.get_watermark_offsets(committed, timeout=seconds)
            start = self._start(committed, first, low, high)
            ranges[committed.partition] = start, high
            if committed.offset < 0 and first == "latest":
                new.append(TopicPartition(topic, committed.partition, start))
        if new:
            # Kept at once: otherwise each run would begin at what is the end by then, and never read anything.
            commit_within(self._consumer, new)
        return ranges

    def _start(self, committed: TopicPartition, first: FirstRun, low: int, high: int) -> int:
        if committed.offset < 0:
            return low if first == "earliest" else high
        if low <= committed.offset <= high:
            return committed.offset
        gone = f"{low - committed.offset} records are gone by retention"
        why = gone if committed.offset < low else "the topic was created again since"
        log.warning("kafka_source_gap", source=self._source, partition=committed.partition, reason=why, starts_at=low)
        return low

    async def poll(self) -> list[Message]:
        """The next messages, none beyond the ends. Raises SourceFailed when nothing comes for `timeout_seconds`."""
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            consumed = await asyncio.to_thread(self._consumer.consume, BATCH_RECORDS, POLL_SECONDS)
            messages = [message for message in consumed if self._take(message)]
            if messages or not self.remaining:
                return messages
            if time.monotonic() > deadline:
                raise self.failed(f"nothing has come for {self._timeout_seconds:g} s")

    def _take(self, message: Message) -> bool:
        partition = cast("int", message.partition())
        if (error := message.error()) is not None:
            # The end may lie before the one that was seen: records of open transactions are not to be read yet.
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
                self.remaining.discard(partition)
                self._next[partition] = max(self._next[partition], cast("int", message.offset()))
                return False
            raise KafkaException(error)
        offset = cast("int", message.offset())
        if partition not in self.remaining or offset >= self._ends[partition]:
            self.remaining.discard(partition)
            return False
        self._next[partition] = offset + 1
        if offset + 1 >= self._ends[partition]:
            self.remaining.discard(partition)
        return True

    @property
    def done(self) -> float:
        """The share of the run that has been read."""
        left = sum(self._ends[partition] - self._next[partition] for partition in self.remaining)
        return 1 - left / self._total

    def positions(self) -> list[TopicPartition]:
        """The offsets to commit once all that was handed over so far is confirmed."""
        return [TopicPartition(self._topic, partition, at) for partition, at in self._next.items()]

    async def commit(self, positions: Sequence[TopicPartition]) -> None:
        """Commit these offsets. Raises SourceFailed: the records are published, and the next run repeats them."""
        try:
            await asyncio.to_thread(commit_within, self._consumer, positions)
        except KafkaException as error:
            raise SourceFailed(
                self._source,
                f"what was read of topic {self._topic} is published, but the place in group {self._group!r} was not "
                f"kept ({reason(error)}), so the next run repeats it; if another program uses the group, set `group`",
            ) from error

    async def close(self) -> None:
        await asyncio.to_thread(close_consumer, self._consumer)

    def failed(self, why: str) -> SourceFailed:
        """The verdict on the source, with what the client heard last and what to look at."""
        heard = f" ({self._trouble.str()})" if self._trouble else ""
        text = f"topic {self._topic} at {self._servers}: {why}{heard}; check `bootstrap_servers` and `security`"
        return SourceFailed(self._source, text)

    def _note(self, error: KafkaError) -> None:
        self._trouble = error
