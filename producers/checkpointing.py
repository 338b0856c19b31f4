"""Saves how far a run is confirmed while it goes on, and never further: the position behind which every record is."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field, replace

import msgspec
import structlog
from confluent_kafka import KafkaException
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from producers.api.sent_records import without
from producers.source import ResumableSource, Source, SourceBatch
from runtime.errors import DeliveryFailed
from runtime.kafka.clients import reason
from runtime.kafka.topic_admin import admin_client, topic_ids
from runtime.settings import Settings
from stores.checkpoints import CheckpointStore, CheckpointTaken, CheckpointUnavailable, Page, Position

log = structlog.get_logger()

SAVE_EVERY_SECONDS = 0.1
"""So much of a run is repeated after a kill -9, and what was on its way; a save takes a few milliseconds."""

LAST_SAVE_SECONDS = 10.0
"""A run that is over does not wait longer for a Postgres that does not answer: the next one repeats a little."""


@dataclass
class SentBatch:
    """A batch that is being sent: `left` of its records have no confirmation yet."""

    left: int
    position: Position | None

    def confirmed(self) -> None:
        self.left -= 1


@dataclass
class ConfirmedPositions:
    """Batches in their order, and what is to be saved of those at the front that are confirmed. Pure."""

    _sent: deque[SentBatch] = field(default_factory=deque)
    _ready: Position | None = None

    def sending(self, batch: SourceBatch) -> SentBatch:
        """A batch whose records are about to be sent."""
        sent = SentBatch(len(batch.records), batch.position)
        self._sent.append(sent)
        return sent

    def take(self) -> Position | None:
        """The step that has become safe to save since the last time; None if none has."""
        while self._sent and not self._sent[0].left:
            position = self._sent.popleft().position
            if position is not None:
                self._ready = position if self._ready is None else merged(self._ready, position)
        ready, self._ready = self._ready, None
        return ready

    def put_back(self, position: Position) -> None:
        """To be called with what was taken and could not be saved."""
        self._ready = position if self._ready is None else merged(position, self._ready)

    def revoke(self, pages: Iterable[Page]) -> None:
        """To be called once these pages are saved: nothing that waits may contradict those without a number later."""
        for revoked in pages:
            if revoked.number is None:
                for sent in self._sent:
                    sent.position = _without(sent.position, revoked)
                self._ready = _without(self._ready, revoked)


def merged(earlier: Position, later: Position) -> Position:
    """One position that, saved, leaves what saving the two in order leaves."""
    pages = {page.number: page for page in earlier.pages if later.end is None or (page.number or 0) < later.end}
    for page in later.pages:
        pages.pop(page.number, None)  # at the end again: their order tells which came last
        pages[page.number] = page
    at = earlier.at if later.at is None else later.at
    return Position(at, tuple(pages.values()), earlier.end if later.end is None else later.end)


def _without(position: Position | None, revoked: Page) -> Position | None:
    if position is None or not position.pages:
        return position
    return replace(position, pages=tuple(without(page, revoked) for page in position.pages))


class Checkpointing:
    """One run's checkpoint. Close it.

    A save that fails is logged once and tried again with the next one: what is not saved is only repeated.
    """

    def __init__(
        self, store: CheckpointStore, source: ResumableSource, since: Position | None, patience_seconds: float
    ) -> None:
        self._store = store
        self._source = source
        self._since = since
        self._patience_seconds = patience_seconds
        self._positions = ConfirmedPositions()
        self._saving: asyncio.Task[None] | None = None
        self._saved_at = float("-inf")
        self._warned = False
        self._taken: CheckpointTaken | None = None

    def batches(self) -> AsyncIterator[SourceBatch]:
        return self._source.resume(self._since)

    async def sending(self, batch: SourceBatch) -> SentBatch:
        """To be called before a batch's records are sent. What it returns counts their confirmations.

        Waits for Postgres when the batch changes what an earlier run has confirmed: if the run died after sending it
        and the source went back to what it was, nobody would know that it must be sent again.
        Raises CheckpointTaken, and CheckpointUnavailable after `patience_seconds`.
        """
        if self._taken is not None:
            raise self._taken
        if batch.before is not None:
            await self._saving_ended()
            self._positions.revoke(batch.before.pages)
            retries = AsyncRetrying(
                retry=retry_if_exception_type(CheckpointUnavailable),
                stop=stop_after_delay(self._patience_seconds),
                wait=wait_random_exponential(multiplier=0.1, max=2.0),
                before_sleep=lambda state: self._warn(state.outcome.exception() if state.outcome else None),
                reraise=True,
            )
            await retries(self._store.save, batch.before)
            self._warned = False
        return self._positions.sending(batch)

    async def tick(self) -> None:
        """To be called often while a run goes on: starts a save when one is due."""
        if self._saving is not None:
            if not self._saving.done():
                await asyncio.sleep(0)  # a source that is never waited for must not hold it up
                return
            await self._saving_ended()
        if time.monotonic() - self._saved_at >= SAVE_EVERY_SECONDS and (position := self._positions.take()):
            self._saving = asyncio.create_task(self._save(position))

    async def finish(self) -> None:
        """Save what is confirmed when no more will be, within LAST_SAVE_SECONDS."""
        await self._within(self._finish())

    async def close(self) -> None:
        """Let the next run have the checkpoint."""
        if self._saving is not None:
            await self._within(self._saving_ended())
        await self._store.close()

    async def _finish(self) -> None:
        await self._saving_ended()
        if position := self._positions.take():
            await self._save(position)

    async def _save(self, position: Position) -> None:
        try:
            await self._store.save(position)
        except CheckpointUnavailable as error:
            self._positions.put_back(position)
            self._warn(error)
        except CheckpointTaken as error:
            self._taken = error
        else:
            self._warned = False
        self._saved_at = time.monotonic()

    async def _saving_ended(self) -> None:
        if self._saving is not None:
            task, self._saving = self._saving, None
            await task

    async def _within(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=LAST_SAVE_SECONDS)
        if not task.done():
            self._warn(TimeoutError(f"Postgres did not answer within {LAST_SAVE_SECONDS:g} s"))
            self._store.abandon()  # first: cancelling would wait for a server that does not answer
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def _warn(self, error: BaseException | None) -> None:
        if not self._warned:
            self._warned = True
            log.warning("checkpoint_not_saved", source=self._source.description.name, reason=str(error))


async def open_checkpoint(source: Source, settings: Settings, run_id: str, *, restart: bool) -> Checkpointing | None:
    """Take a source's checkpoint for a run. None for a source that can't resume; and where it is not needed, since the
    run is to `restart`, and Postgres does not answer (which is logged).

    Raises CheckpointTaken, CheckpointUnavailable unless `restart`, DeliveryFailed when Kafka does not answer.
    """
    name = source.description.name
    if not isinstance(source, ResumableSource):
        log.info("source_cannot_resume", source=name, kind=source.description.kind)
        return None
    topic = settings.named(source.description.dataset.raw_topic)
    scope = scope_of(source, await asyncio.to_thread(_topic_id, settings, topic))
    store = CheckpointStore(settings, name, scope, run_id)
    try:
        since = await store.begin(restart=restart)
    except CheckpointUnavailable as error:
        if not restart:
            raise
        log.warning("checkpoint_not_kept", source=name, reason=str(error))
        return None
    return Checkpointing(store, source, since, settings.publish_timeout_seconds)


def scope_of(source: ResumableSource, topic_id: str) -> str:
    """A digest of what a position depends on: how the source is read, what becomes of its records, and the incarnation
    of the topic that has them. Pure.
    """
    description = source.description
    depends = (description.kind, description.dataset.name, description.field_readings(), source.scope, topic_id)
    return hashlib.blake2b(msgspec.json.encode(depends, order="deterministic"), digest_size=16).hexdigest()


def _topic_id(settings: Settings, topic: str) -> str:
    try:
        return topic_ids(admin_client(settings), [topic])[topic]
    except KafkaException as error:
        raise DeliveryFailed(
            f"Kafka at {settings.kafka_bootstrap_servers} does not say which topic {topic} is: {reason(error)}"
        ) from error
