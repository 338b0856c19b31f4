"""The one loop of every sink: poll, prepare, write, confirm, commit.

While a batch is written, the one before is confirmed and committed, in order. Under backlog the next one is polled and
prepared meanwhile too; otherwise it is polled afterwards, with all that has come by then.
At-least-once delivery meets idempotent writes: the effect is exactly once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from runtime.instruments import from_zero
from runtime.kafka.message_headers import message_headers
from runtime.kafka.topic_admin import TopicRecreated, watch_topics
from runtime.memory import spare_the_collector
from runtime.metrics import SINK_GONE
from runtime.settings import Settings
from runtime.tracing import Followed, Received, follow, follower_name, within
from schemas.sinks import sink_named
from schemas.topics import topics_read_by
from sinks.group_consumer import GroupConsumer, Offsets, Polled
from sinks.lifecycle import Stopped, run_and_drain, run_until_signal, through_outages
from sinks.sink import Batch, Message, Sink
from sinks.state import SinkState

HOLD_SECONDS = 0.25
"""One poll while waiting; SIGTERM is noticed between two of them."""

IDLE_SECONDS = 0.5
"""One poll while nothing comes; SIGTERM is noticed between two of them."""

COMMIT_EVERY_SECONDS = 0.1
"""Between two commits while records come; once nothing more comes, the rest is committed at once."""

COMMIT_RETRY_SECONDS = 1.0

SET_UP_AGAIN_SECONDS = 15.0
"""Between two tries to set up the store of a sink that has paused a topic."""

ANSWER_EVERY_SECONDS = 0.01
"""A commit is answered in some milliseconds."""

LEAVE_SECONDS = 2.0

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True)
class _Prepared(Generic[Batch]):
    """A batch that can be written, and the offsets to commit when it is through."""

    batch: Batch | None
    """None where only offsets without a record have been passed."""
    records: int
    begins: Offsets
    """The first offset of each partition; `offsets` are the ones behind the last."""
    offsets: Offsets
    without: frozenset[str]
    """The physical topics that were paused when it was polled: it holds nothing of them."""
    traced: Followed | None


@dataclass(frozen=True)
class _Written:
    """A batch that is in the store."""

    confirmed: Awaitable[None] | None
    offsets: Offsets
    """Without those of topics that could not be written."""
    traced: Followed | None


def run_sink(sink: Sink[Batch], settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Blocking. Raises what is neither a record's fault nor an outage, uncommitted."""
    spare_the_collector()
    runner = Runner(sink, settings)
    run_until_signal(runner.run, runner.stop, runner.health, settings, sink_named(sink.name).group)


class Runner(Generic[Batch]):
    """Runs one sink. `stop` may be called at any time from the event loop's thread."""

    def __init__(self, sink: Sink[Batch], settings: Settings) -> None:
        declared = sink_named(sink.name)
        self._group = group = declared.group
        self._sink = sink
        self._settings = settings
        self._topics = topics_read_by(group)
        self._state = SinkState(sink.name)
        from_zero(SINK_GONE, [sink.name], map(settings.named, self._topics))
        self._consumer = GroupConsumer(settings, group, self._topics, self._state.gone, declared.patience_ms)
        self._stopping = asyncio.Event()
        self._ahead: asyncio.Task[_Prepared[Batch]]
        """Polls and prepares the next batch."""
        self._behind: asyncio.Task[None] | None = None
        """Confirms and commits the batch before the one that is written."""
        self._confirmed: Offsets = {}
        """Not committed yet."""
        self._committed_at = 0.0
        self._set_up_at = 0.0

    def stop(self) -> None:
        """Finish the batch in hand and end `run`."""
        self._stopping.set()

    def health(self) -> dict[str, Any]:
        """Details for the health server; callable from any thread."""
        assigned = [f"{topic}/{partition}" for topic, partition in self._consumer.assigned]
        paused = {self._settings.named(topic): reason for topic, reason in self._sink.paused.items()}
        shown: dict[str, Any] = {"paused": paused} if paused else {}
        if not self._consumer.reading:
            shown["problem"] = "has not begun to read as a member of its consumer group yet"
        return {"sink": self._sink.name, "assigned": assigned, **shown, **self._state.details()}

    async def run(self) -> None:
        """Set the store up, then bring batches into it until stopped. Raises what calls for a crash."""
        physical = [self._settings.named(topic) for topic in self._topics]
        watch = watch_topics(self._settings, physical, self._rewind)
        told = {"sink": self._sink.name, "consequence": "it comes again after the restart"}
        try:
            try:
                await run_and_drain(self._loop(), self._stopping, watch, **told)
            finally:
                await self._sink.close()
                await asyncio.to_thread(self._consumer.close, LEAVE_SECONDS)
        except TopicRecreated as error:
            from runtime.kafka.group_members import start_over  # here, since aiokafka takes long to load

            await start_over(self._settings, self._group, error.topics)
            raise
        log.info("sink_stopped", sink=self._sink.name, records=self._state.records)

    async def _loop(self) -> None:
        self._consumer.open()
        log.info("sink_started", sink=self._sink.name, topics=list(self._topics))
        try:
            await self._set_up()
            self._begin_next()
            while not self._stopping.is_set():
                await self._take(await self._ahead)
            await self._ahead
        except Stopped:
            pass
        await self._committed(self._behind)
        if self._confirmed:
            await self._committed(_started(self._commit()))

    async def _take(self, prepared: _Prepared[Batch]) -> None:
        """Bring a batch into the store, and begin with the next: under backlog meanwhile, else with all that came."""
        if backlog := self._consumer.backlog:
            self._begin_next()
        # Only when nothing of a paused topic is in hand any more, it may go on from where it was left.
        all_left = prepared.without == self._paused_topics()
        if self._sink.paused and all_left and time.monotonic() > self._set_up_at + SET_UP_AGAIN_SECONDS:
            await self._set_up()
        if prepared.offsets:
            await self._follow(self._confirm(await self._write(prepared)))
        elif self._behind is not None and self._behind.done():
            await self._behind  # what has stopped it does not wait for another batch
            if self._confirmed:
                self._behind = _started(self._commit())
        if not backlog:
            self._begin_next()

    def _begin_next(self) -> None:
        settled = not self._confirmed and (self._behind is None or self._behind.done())
        seconds = IDLE_SECONDS if settled else None
        self._ahead = _started(asyncio.to_thread(lambda: self._prepare(self._poll(seconds))))

    def _poll(self, seconds: float | None) -> Polled:
        return self._consumer.poll(self._paused_topics(), seconds)

    def _prepare(self, polled: Polled) -> _Prepared[Batch]:
        messages, offsets, without = polled
        begins = {(message.topic(), message.partition()): message.offset() for message in reversed(messages)}
        batch = self._sink.prepare(messages) if messages and offsets else None
        traced = follow(self._sink.name, map(_received, messages)) if batch is not None else None
        return _Prepared(batch, len(messages), begins, offsets, without, traced)

    async def _write(self, prepared: _Prepared[Batch]) -> _Written:
        """Bring it into the store, through outages. Topics that could not be written are to be read again."""
        confirmed = None
        if prepared.batch is not None:
            with within(prepared.traced):
                confirmed = await self._through_outages(partial(self._try_to_write, prepared.batch))
            self._state.wrote(prepared.records)
        paused = self._paused_topics()
        offsets = {place: offset for place, offset in prepared.offsets.items() if place[0] not in paused}
        if left := prepared.offsets.keys() - offsets.keys():
            begins = {place: prepared.begins.get(place, prepared.offsets[place]) for place in left}
            await asyncio.to_thread(self._consumer.leave, begins)
        return _Written(confirmed, offsets, prepared.traced)

    async def _try_to_write(self, batch: Batch) -> Awaitable[None] | None:
        self._state.write_began()
        return await self._sink.write(batch)

    async def _confirm(self, written: _Written) -> Offsets:
        """Publish what follows from the batch, and wait until the broker has it. The offsets that may be committed."""
        if written.confirmed is not None:
            with within(written.traced):
                await written.confirmed
        if written.traced is not None:
            written.traced.end()
        return written.offsets

    async def _follow(self, confirmed: Awaitable[Offsets]) -> None:
        """Confirm and commit after the batch before this one. Returns when that one is through, to go on writing."""
        before = self._behind
        self._behind = _started(self._commit_after(before, confirmed))
        await self._committed(before)

    async def _commit_after(self, before: "asyncio.Task[None] | None", confirmed: Awaitable[Offsets]) -> None:
        try:
            if before is not None:
                await before
        finally:
            self._confirmed |= await confirmed
        if time.monotonic() > self._committed_at + COMMIT_EVERY_SECONDS:
            await self._commit()

    async def _commit(self) -> None:
        """Commit what is confirmed."""
        offsets, self._confirmed = self._confirmed, {}
        self._committed_at = time.monotonic()
        # While the broker is away the offsets are tried again: no later batch may come to carry them.
        while not await asyncio.to_thread(self._consumer.commit, offsets):  # noqa: ASYNC110
            await asyncio.sleep(COMMIT_RETRY_SECONDS)
        self._state.committed()

    async def _committed(self, commit: "asyncio.Task[None] | None") -> None:
        """Wait for a commit. The broker's answer is taken by a poll, by this one if no other is under way."""
        if commit is None:
            return
        while not commit.done():
            if self._ahead.done():
                await asyncio.to_thread(self._consumer.take_answers)
            await asyncio.wait({commit}, timeout=ANSWER_EVERY_SECONDS)
        await commit

    async def _set_up(self) -> None:
        before = dict(self._sink.paused)
        await self._through_outages(self._sink.setup)
        self._set_up_at = time.monotonic()
        for topic, reason in self._sink.paused.items() - before.items():
            log.error("topic_paused", sink=self._sink.name, topic=topic, reason=reason)
        for topic in before.keys() - self._sink.paused.keys():
            log.info("topic_resumed", sink=self._sink.name, topic=topic)

    def _paused_topics(self) -> frozenset[str]:
        return frozenset(self._settings.named(topic) for topic in self._sink.paused)

    async def _rewind(self, topics: Collection[str]) -> None:
        await asyncio.to_thread(self._consumer.rewind, topics)

    async def _through_outages(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it succeeds, holding the place in the group meanwhile. Raises Stopped if the sink is to stop."""
        result = await through_outages(attempt, self._state, self._hold)
        if self._consumer.held:
            await asyncio.to_thread(self._consumer.resume)
        return result

    async def _hold(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while (left := deadline - now()) > 0:
            if self._stopping.is_set():
                raise Stopped
            await asyncio.to_thread(self._consumer.hold, min(left, HOLD_SECONDS))


def _received(message: Message) -> Received:
    topic = message.topic()
    name = follower_name(topic, message.key())
    return Received(name, topic, message.partition(), message.offset(), message_headers(message))


def _started(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """A task whose error is not complained of when the loop has ended for another one before it was awaited."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
