"""Delivers a run's records to Kafka: queued within bounds, each followed to its confirmation."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.checkpointing import Checkpointing, SentBatch
from producers.raw_records import RawHeaders, fitting
from producers.run_checks import DistinctKeys
from producers.source import Source, SourceBatch, SourceRecord
from producers.text.found_encoding import TextEncoding
from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error
from runtime.kafka.confirmed import BY_KEY
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings

log = structlog.get_logger()

POLL_SECONDS = 0.1
PROGRESS_EVERY_SECONDS = 0.1
SLOW_BROKER_SECONDS = 5.0
"""A full queue that does not move for this long is logged once."""


@dataclass
class Progress:
    """Counts of a run that goes on. `done` is the share of the source that was read (0 to 1), None if unknown."""

    source: str
    sent: int = 0
    confirmed: int = 0
    unconfirmed: int = 0
    rejected_rows: int = 0
    done: float | None = None
    unchanged: int = 0
    blank: int = 0
    encoding: TextEncoding | None = None
    left_out: tuple[str, ...] = ()
    """Columns that give no field."""
    keys: DistinctKeys = field(default_factory=DistinctKeys)
    """Of the records that were sent."""


@dataclass
class Delivery:
    """Hands a source's records to Kafka and follows each to its confirmation. Belongs to one event loop."""

    source: Source
    settings: Settings
    producer: Producer
    """Not a Publisher, which would take an object per record more, and says only that all are confirmed, not where."""
    run_id: str
    listener: Callable[[Progress], None] | None
    offsets: dict[tuple[str, int], OffsetRanges] = field(default_factory=dict)
    first_error: KafkaError | None = None
    checkpoint: Checkpointing | None = None

    def __post_init__(self) -> None:
        description = self.source.description
        self.topic = self.settings.named(description.dataset.raw_topic)
        self.progress = Progress(description.name)
        self._headers = RawHeaders(description, self.run_id)
        self._notified_at = 0.0
        self._on_delivery = partial(self._delivered, None)
        self._add_offset: dict[int, Callable[[int], None]] = {}

    async def send(self, batch: SourceBatch) -> None:
        """Queue a batch; waits while the queue is full."""
        if self.checkpoint is not None:
            self._on_delivery = partial(self._delivered, await self.checkpoint.sending(batch))
        self._headers.start_batch(batch.readings)
        for record in batch.records:
            if not self._try(record):
                await self._wait_for_room(record)
        if batch.done is not None:
            self.progress.done = batch.done
        self.progress.unchanged += batch.unchanged
        self.progress.blank += batch.blank
        self.progress.encoding = batch.encoding or self.progress.encoding
        self.progress.left_out = self.progress.left_out or batch.left_out
        self.producer.poll(0)
        await self._tick()
        if self.progress.unconfirmed:
            self.require_all_confirmed(so_far=True)

    async def _wait_for_room(self, record: SourceRecord) -> None:
        waiting_since, confirmed, warned = time.monotonic(), self.progress.confirmed, False
        while not self._try(record):
            await asyncio.to_thread(self.producer.poll, POLL_SECONDS)
            await self._tick()
            if self.progress.confirmed != confirmed:
                waiting_since, confirmed = time.monotonic(), self.progress.confirmed
            elif not warned and time.monotonic() - waiting_since > SLOW_BROKER_SECONDS:
                warned = True
                log.warning("publish_waits_for_kafka", source=self.progress.source, queued=len(self.producer))

    def _try(self, record: SourceRecord) -> bool:
        """Hand a record to the producer; False when its queue is full. Raises DeliveryFailed on a fatal error."""
        value, key, problem, brought_along = fitting(record)
        progress = self.progress
        headers = self._headers.of(progress.sent, problem)
        if brought_along:
            headers = [*brought_along, *headers]
        try:
            self.producer.produce(self.topic, value, key, BY_KEY, self._on_delivery, headers=headers)
        except BufferError:
            return False
        except KafkaException as error:
            raise DeliveryFailed(f"{progress.source}: Kafka refused a record: {error.args[0].str()}") from error
        progress.sent += 1
        progress.keys.add(key)
        if problem is not None:
            progress.rejected_rows += 1
        return True

    async def flush(self, seconds: float | None = None) -> None:
        """Wait for every delivery report, at most `seconds`; the producer's own delivery timeout bounds it anyway."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while len(self.producer):
            await asyncio.to_thread(self.producer.flush, POLL_SECONDS)
            await self._tick()
            if deadline is not None and time.monotonic() > deadline:
                self.producer.purge()
                deadline = None

    async def end(self, seconds: float | None = None) -> None:
        """`flush`, call the listener for the last time, and save the position that is confirmed."""
        await self.flush(seconds)
        self._notify(final=True)
        if self.checkpoint is not None:
            await self.checkpoint.finish()

    async def _tick(self) -> None:
        self._notify()
        if self.checkpoint is not None:
            await self.checkpoint.tick()

    def _notify(self, *, final: bool = False) -> None:
        """Call the listener, at most every PROGRESS_EVERY_SECONDS unless it is the last time."""
        now = time.monotonic()
        if self.listener and (final or now - self._notified_at >= PROGRESS_EVERY_SECONDS):
            self._notified_at = now
            self.listener(self.progress)

    def require_all_confirmed(self, *, so_far: bool = False) -> None:
        """Raise DeliveryFailed unless every record sent has been confirmed, or, so far, none been refused."""
        progress = self.progress
        if progress.unconfirmed or (not so_far and progress.confirmed != progress.sent):
            reason = self.first_error.str() if self.first_error else "no delivery report"
            if self.first_error and self.first_error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001 (its public name)
                reason = f"no answer within {self.settings.publish_timeout_seconds} s, see PUBLISH_TIMEOUT_SECONDS"
            raise DeliveryFailed(
                f"{progress.source}: {progress.sent - progress.confirmed:,} of {progress.sent:,} records were not "
                f"confirmed by Kafka at {self.settings.kafka_bootstrap_servers} ({reason}); publish again: "
                "records that did arrive are recognised and change nothing"
            )

    def _delivered(self, batch: SentBatch | None, error: KafkaError | None, message: Message) -> None:
        if (error := delivery_error(error, message)) is not None:
            self.progress.unconfirmed += 1
            self.first_error = self.first_error or error
            return
        self.progress.confirmed += 1
        if batch is not None:
            batch.confirmed()
        partition: Any = message.partition()
        offset: Any = message.offset()
        add = self._add_offset.get(partition)
        if add is None:
            ranges = self.offsets[self.topic, partition] = OffsetRanges()
            add = self._add_offset[partition] = ranges.add
        add(offset)
