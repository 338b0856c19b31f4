"""One run: every record of a source onto `<dataset>.raw`, published only once the broker has confirmed each of them."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from producers.checkpointing import open_checkpoint
from producers.delivery import Delivery, Progress
from producers.raw_records import require_topic
from producers.run_checks import UnreadableLimit, repeated_keys
from producers.source import Source, SourceBatch, SourceFailed
from runtime.kafka.confirmed import patient_producer
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings
from runtime.tracing import span
from stores.checkpoints import Checkpoint

log = structlog.get_logger()

INTERRUPTED_FLUSH_SECONDS = 10.0
"""An interrupted run waits so long for what it has queued; the rest is given up and counted as unconfirmed."""


@dataclass(frozen=True)
class PublishReport:
    """A run that is published: every record has been confirmed.

    `rejected_rows` of the `published` records carry a problem and will be failures. `offsets` are the confirmed
    offsets by (physical topic, partition). `unchanged` records were not sent: an earlier run has sent them as they are.
    """

    run_id: str
    published: int
    rejected_rows: int
    offsets: dict[tuple[str, int], OffsetRanges]
    seconds: float
    unchanged: int = 0
    warning: str | None = None
    """A remark on the records as a whole, where they are odd."""


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
    "restart" publishes all, and keeps one if Postgres takes it; None publishes all and leaves the checkpoint as it is:
    should the source then go back to what that says, "resume" would not see it. Kinds that can't resume publish all.

    `progress` is called about ten times a second and once at the end, however the run ends. What was published by a run
    that failed stays published: running again repeats it, and repeats change nothing. When cancelled, what is queued
    is flushed for up to INTERRUPTED_FLUSH_SECONDS before CancelledError goes on.

    Raises SourceFailed when the source, or nearly every record of it, cannot be read, DeliveryFailed when Kafka is not
    there or does not confirm all, CheckpointTaken when another run of the source keeps its checkpoint,
    CheckpointUnavailable when it is to be resumed from and Postgres does not give it, or must note a change before that
    is published and does not.
    """
    started, name = time.monotonic(), source.description.name
    await asyncio.to_thread(require_topic, settings, settings.named(source.description.dataset.raw_topic))
    producer = await asyncio.to_thread(patient_producer, settings, settings.publish_timeout_seconds)
    run = Delivery(source, settings, producer, run_id or str(uuid.uuid4()), progress)
    log.info("publish_started", source=name, run=run.run_id, topic=run.topic)
    if checkpoint is not None:
        run.checkpoint = await open_checkpoint(source, settings, run.run_id, restart=checkpoint == "restart")
    try:
        batches = run.checkpoint.batches() if run.checkpoint else source.batches()
        with span(f"publish {name}", "PRODUCER", messaging_destination_name=run.topic, headrace_run=run.run_id):
            await _publish_all(run, batches)
    finally:
        if run.checkpoint is not None:
            await run.checkpoint.close()
    sent, seconds = run.progress, time.monotonic() - started
    warning = repeated_keys(source.description, sent.keys)
    log.info(
        "published",
        source=name,
        run=run.run_id,
        records=sent.confirmed,
        unchanged=sent.unchanged,
        rejected_rows=sent.rejected_rows,
        encoding=sent.encoding and str(sent.encoding),
        left_out=sent.left_out,
        seconds=round(seconds, 3),
    )
    if warning:
        log.warning("keys_repeat", source=name, run=run.run_id, reason=warning)
    return PublishReport(run.run_id, sent.confirmed, sent.rejected_rows, run.offsets, seconds, sent.unchanged, warning)


async def _publish_all(run: Delivery, batches: AsyncIterator[SourceBatch]) -> None:
    limit = UnreadableLimit(run.progress.source, run.settings)
    try:
        async with aclosing(batches):  # type: ignore[type-var]
            async for batch in batches:
                limit.judge(batch)
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
