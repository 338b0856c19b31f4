"""One run: every record of a source onto `<dataset>.raw`, published only once the broker has confirmed each of them."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeGuard, cast

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.checkpointing import Checkpointing, open_checkpoint
from producers.confirmed_positions import SentBatch
from producers.raw_headers import RawHeaders
from producers.rehearsed import rehearsed_batches
from producers.source import Source, SourceBatch, SourceFailed, SourceRecord
from runtime.checkpoints import Checkpoint
from runtime.errors import DeliveryFailed
from runtime.kafka_clients import producer_config
from runtime.offset_ranges import OffsetRanges
from runtime.rehearsal_watch import watch_for
from runtime.settings import Settings
from runtime.topic_admin import admin_client

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
TOPIC_SECONDS = 3.0
"""A topic that has just been created is not in every broker's metadata yet."""

POLL_SECONDS = 0.1
PROGRESS_EVERY_SECONDS = 0.1
SLOW_BROKER_SECONDS = 5.0
"""A full queue that does not move for this long is told once."""

INTERRUPTED_FLUSH_SECONDS = 10.0
"""How long an interrupted run waits for what it has queued; the rest is given up and counted as unconfirmed."""

LARGEST_VALUE_BYTES = 5 * 1_048_576
"""A larger one would not fit into the envelope of a failure (base64, see MAX_MESSAGE_BYTES)."""

KEPT_OF_LARGE_VALUE_BYTES = 65_536


@dataclass
class Progress:
    """How far a run is. `done` is the share of the source that has been read (0 to 1), None if unknown."""

    source: str
    sent: int = 0
    confirmed: int = 0
    unconfirmed: int = 0
    rejected_rows: int = 0
    done: float | None = None
    unchanged: int = 0


@dataclass(frozen=True)
class PublishReport:
    """A run that is published: every record has been confirmed.

    `rejected_rows` of the `published` records carry a problem and will be failures. `offsets` are the confirmed
    offsets by (physical topic, partition). `unchanged` records were not sent: an earlier run has sent them as they are.
    """

    run_id: str
    source: str
    dataset: str
    published: int
    rejected_rows: int
    offsets: dict[tuple[str, int], OffsetRanges]
    seconds: float
    unchanged: int = 0


async def publish(
    source: Source,
    settings: Settings,
    *,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> PublishReport:
    """Publish a source's records and wait until each is confirmed. `run_id` is a new UUID if not given.

    `checkpoint`: "resume" publishes what is new or changed since the last run that kept a checkpoint, finished or not;
    "anew" publishes all, and keeps one if Postgres takes it; None publishes all and leaves the checkpoint as it is:
    should the source then go back to what that says, "resume" would not see it. Kinds that can't resume publish all.

    `progress` is called about ten times a second and once at the end, however the run ends. What was published by a run
    that failed stays published: running again repeats it, and repeats change nothing. When cancelled, what is queued
    is flushed for up to INTERRUPTED_FLUSH_SECONDS before CancelledError goes on.

    Raises SourceFailed when the source cannot be read, DeliveryFailed when Kafka is not there or does not confirm all,
    CheckpointTaken when another run of the source keeps its checkpoint, CheckpointUnavailable when it is to be resumed
    from and Postgres does not give it, or must note a change before that is published and does not.
    """
    started = time.monotonic()
    run = _Run(source, settings, run_id or str(uuid.uuid4()), progress)
    await asyncio.to_thread(require_topic, settings, run.topic)
    log.info("publish_started", source=run.progress.source, run=run.run_id, topic=run.topic)
    kept = None
    if checkpoint is not None:
        kept = await open_checkpoint(source, settings, run.run_id, anew=checkpoint == "anew")
    try:
        batches = source.batches()
        if kept is not None:
            run.checkpoint, batches = kept.checkpointing, kept.batches()
        if watch := watch_for(settings, "producers"):
            batches = rehearsed_batches(source.description.name, batches, watch)
        await _publish_all(run, batches)
    finally:
        if kept is not None:
            await kept.checkpointing.close()
    report = run.report(time.monotonic() - started)
    log.info(
        "published",
        source=report.source,
        run=report.run_id,
        records=report.published,
        unchanged=report.unchanged,
        rejected_rows=report.rejected_rows,
        seconds=round(report.seconds, 3),
    )
    return report


async def _publish_all(run: "_Run", batches: AsyncIterator[SourceBatch]) -> None:
    try:
        async with aclosing(batches):  # type: ignore[type-var]
            async for batch in batches:
                await run.send(batch)
                if batch.on_confirmed is not None:
                    await run.flush()
                    run.require_all_confirmed()
                    await batch.on_confirmed()
    except SourceFailed as failure:
        await run.end()
        log.warning("publish_failed", source=failure.source, run=run.run_id, reason=failure.reason)
        raise
    except BaseException:
        await run.end(INTERRUPTED_FLUSH_SECONDS)
        raise
    await run.end()
    run.require_all_confirmed()


@dataclass
class _Run:
    source: Source
    settings: Settings
    run_id: str
    listener: Callable[[Progress], None] | None
    offsets: dict[tuple[str, int], OffsetRanges] = field(default_factory=dict)
    first_error: KafkaError | None = None
    checkpoint: Checkpointing | None = None

    def __post_init__(self) -> None:
        description = self.source.description
        self.topic = self.settings.named(description.dataset.raw_topic)
        self.progress = Progress(description.name)
        self._headers = RawHeaders(description, self.source.content_type, self.run_id)
        # Errors reach us through the deliveries; librdkafka's own lines would repeat them once per connection attempt.
        timeout = {"delivery.timeout.ms": self.settings.publish_timeout_seconds * 1000}
        self._producer = Producer(producer_config(self.settings, log_level=0, error_cb=self._note_error, **timeout))
        self._told = 0.0
        self._on_delivery = partial(self._delivered, None)

    async def send(self, batch: SourceBatch) -> None:
        """Queue a batch; waits while the queue is full."""
        if self.checkpoint is not None:
            self._on_delivery = partial(self._delivered, await self.checkpoint.sending(batch))
        self._headers.start_batch()
        for record in batch.records:
            fitting = _too_large(record, record.value) if _is_too_large(record.value) else record
            if not self._try(fitting):
                await self._wait_for_room(fitting)
        if batch.done is not None:
            self.progress.done = batch.done
        self.progress.unchanged += batch.unchanged
        self._producer.poll(0)
        await self._tick()
        if self.progress.unconfirmed:
            self.require_all_confirmed(so_far=True)

    async def _wait_for_room(self, record: SourceRecord) -> None:
        waiting_since, confirmed, told = time.monotonic(), self.progress.confirmed, False
        while not self._try(record):
            await asyncio.to_thread(self._producer.poll, POLL_SECONDS)
            await self._tick()
            if self.progress.confirmed != confirmed:
                waiting_since, confirmed = time.monotonic(), self.progress.confirmed
            elif not told and time.monotonic() - waiting_since > SLOW_BROKER_SECONDS:
                told = True
                log.warning("publish_waits_for_kafka", source=self.progress.source, queued=len(self._producer))

    def _try(self, record: SourceRecord) -> bool:
        """Hand a record to the producer; False when its queue is full. Raises DeliveryFailed on a fatal error."""
        headers = self._headers.of(self.progress.sent, record.problem)
        if record.headers:
            headers = [*record.headers, *headers]
        try:
            self._producer.produce(
                self.topic,
                value=record.value,
                key=record.key,
                headers=headers,
                on_delivery=self._on_delivery,
            )
        except BufferError:
            return False
        except KafkaException as error:
            raise DeliveryFailed(f"{self.progress.source}: Kafka refused a record: {error.args[0].str()}") from error
        self.progress.sent += 1
        if record.problem is not None:
            self.progress.rejected_rows += 1
        return True

    async def flush(self, seconds: float | None = None) -> None:
        """Wait for every delivery report, at most `seconds`; the producer's own delivery timeout bounds it anyway."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while len(self._producer):
            await asyncio.to_thread(self._producer.flush, POLL_SECONDS)
            await self._tick()
            if deadline is not None and time.monotonic() > deadline:
                self._producer.purge()
                deadline = None

    async def end(self, seconds: float | None = None) -> None:
        """`flush`, tell the listener for the last time, and save how far all is confirmed."""
        await self.flush(seconds)
        self.tell(final=True)
        if self.checkpoint is not None:
            await self.checkpoint.finish()

    async def _tick(self) -> None:
        self.tell()
        if self.checkpoint is not None:
            await self.checkpoint.tick()

    def tell(self, *, final: bool = False) -> None:
        """Call the listener, at most every PROGRESS_EVERY_SECONDS unless it is the last time."""
        now = time.monotonic()
        if self.listener and (final or now - self._told >= PROGRESS_EVERY_SECONDS):
            self._told = now
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

    def report(self, seconds: float) -> PublishReport:
        """The report of a run of which every record is confirmed."""
        progress, dataset = self.progress, self.source.description.dataset.name
        return PublishReport(
            self.run_id,
            progress.source,
            dataset,
            progress.confirmed,
            progress.rejected_rows,
            self.offsets,
            seconds,
            progress.unchanged,
        )

    def _delivered(self, batch: SentBatch | None, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.progress.unconfirmed += 1
            self.first_error = self.first_error or error
            return
        self.progress.confirmed += 1
        if batch is not None:
            batch.confirmed()
        place = (self.topic, cast("int", message.partition()))
        ranges = self.offsets.get(place)
        if ranges is None:
            ranges = self.offsets[place] = OffsetRanges()
        ranges.add(cast("int", message.offset()))

    def _note_error(self, error: KafkaError) -> None:
        log.debug("kafka_client_error", source=self.progress.source, error=error.str())


def _is_too_large(value: bytes | None) -> TypeGuard[bytes]:
    return value is not None and len(value) > LARGEST_VALUE_BYTES


def _too_large(record: SourceRecord, value: bytes) -> SourceRecord:
    size = len(value)
    kept = value[:KEPT_OF_LARGE_VALUE_BYTES]
    message = f"{size:,} bytes, at most {LARGEST_VALUE_BYTES:,} are taken; the first {len(kept):,} are kept"
    return SourceRecord(kept, record.key, f"record_too_large;{message}", record.headers)


def require_topic(settings: Settings, topic: str, seconds: float = CONNECT_SECONDS) -> None:
    """Blocking, at most `seconds`. Raises DeliveryFailed when Kafka does not answer or the topic does not exist."""
    admin = admin_client(settings)
    deadline = time.monotonic() + min(TOPIC_SECONDS, seconds)
    try:
        # Asked without naming the topic: a broker that creates topics on demand would make it with its own defaults.
        while topic not in admin.list_topics(timeout=seconds).topics:
            if time.monotonic() > deadline:
                raise DeliveryFailed(f"topic {topic} does not exist yet; `headrace setup` creates it")
            time.sleep(POLL_SECONDS)
    except KafkaException as error:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer ({error.args[0].str()}); "
            "`headrace up` starts the stack, `headrace status` says what is down"
        ) from error
