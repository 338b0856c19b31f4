"""The one loop of every sink: poll, prepare, write, confirm, commit.

While a batch is written, the next one is polled and prepared; while its events are confirmed, the next one is written.
Offsets are committed last, in order. At-least-once delivery meets idempotent writes: the effect is exactly once.
"""

import asyncio
import queue
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
import uvloop

from runtime.errors import Backpressure
from runtime.health import HealthServer
from runtime.kafka.topic_watch import watch_topics
from runtime.settings import Settings
from schemas.sinks import sink_named
from schemas.topics import topics_read_by
from sinks.intake import Intake, Offsets
from sinks.progress import Progress
from sinks.sink import Batch, Sink

FIRST_WAIT_SECONDS = 0.2
"""Backoff while a store is down: doubled each time up to what the verdict says, each wait drawn from its upper half."""

HOLD_SECONDS = 0.25
"""One poll while waiting; SIGTERM is noticed between two of them."""

COMMIT_RETRY_SECONDS = 1.0

LOOK_AGAIN_SECONDS = 15.0
"""How often a sink that has paused a topic looks whether its store takes it now."""

ANSWER_EVERY_SECONDS = 0.01
"""A commit is answered in some milliseconds."""

SWITCH_SECONDS = 0.0005
"""How long one thread may keep the interpreter from the others. With the default of 5 ms, each of the few exchanges
with the store would wait that long for the thread that prepares the next batch."""

DRAIN_SECONDS = 6.0
"""After SIGTERM a batch in hand has this long to be written, confirmed and committed; then it is left to redelivery."""

LEAVE_SECONDS = 2.0

log = structlog.get_logger()

T = TypeVar("T")


class _Stopped(Exception):
    """The sink is to stop while it waits for its store: the batch in hand is left to redelivery."""


@dataclass(frozen=True)
class _Prepared(Generic[Batch]):
    batch: Batch | None
    """None where only offsets without a record have been passed."""
    records: int
    begins: Offsets
    """The first offset of each partition; `offsets` are the ones behind the last."""
    offsets: Offsets


def run_sink(sink: Sink[Batch], settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Blocking. Raises what is neither a record's fault nor an outage, uncommitted."""
    run_in_loop(_until_signal(sink, settings))


def run_in_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run on a fast event loop that gets its turn while another thread prepares the next batch."""
    sys.setswitchinterval(SWITCH_SECONDS)
    return uvloop.run(main)


async def _until_signal(sink: Sink[Batch], settings: Settings) -> None:
    runner = Runner(sink, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, runner.stop)
    with HealthServer(settings.health_port, runner.health):
        await runner.run()


class Runner(Generic[Batch]):
    """Runs one sink. `stop` may be called at any time from the event loop's thread."""

    def __init__(self, sink: Sink[Batch], settings: Settings) -> None:
        self._sink = sink
        self._settings = settings
        group = sink_named(sink.name).group
        self._topics = topics_read_by(group)
        self._intake = Intake(settings, group, self._topics)
        self._stopping = asyncio.Event()
        self._progress = Progress(sink.name)
        self._polled_without: frozenset[str] = frozenset()
        self._left: queue.SimpleQueue[Offsets] = queue.SimpleQueue()
        self._looked_at = 0.0

    def stop(self) -> None:
        """Finish the batch in hand and end `run`."""
        self._stopping.set()

    def health(self) -> dict[str, Any]:
        """Details for the health server; callable from any thread."""
        assigned = [f"{topic}/{partition}" for topic, partition in self._intake.assigned]
        paused = {self._settings.named(topic): reason for topic, reason in self._sink.paused.items()}
        shown = {"paused": paused} if paused else {}
        return {"sink": self._sink.name, "assigned": assigned, **shown, **self._progress.details()}

    async def run(self) -> None:
        """Set the store up, then poll, write and commit until stopped. Raises what calls for a crash."""
        loop = asyncio.create_task(self._loop())
        stop = asyncio.create_task(self._stopping.wait())
        watch = asyncio.create_task(
            watch_topics(self._settings, [self._settings.named(t) for t in self._topics], self._rewind)
        )
        try:
            await asyncio.wait({loop, stop, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                await watch
            await asyncio.wait({loop}, timeout=DRAIN_SECONDS)
            if loop.done():
                await loop
            else:
                log.warning("batch_abandoned", sink=self._sink.name, consequence="it comes again after the restart")
        finally:
            for task in (stop, watch, loop):
                task.cancel()
            await self._sink.close()
            await asyncio.to_thread(self._intake.close, LEAVE_SECONDS)
        log.info("sink_stopped", sink=self._sink.name, records=self._progress.records)

    async def _loop(self) -> None:
        self._intake.open()
        log.info("sink_started", sink=self._sink.name, topics=list(self._topics))
        committing: asyncio.Task[None] | None = None
        try:
            await self._set_up()
            polling = _started(self._poll())
            while not self._stopping.is_set():
                prepared = await polling
                # Only when nothing of a paused topic is in hand any more, it may go on from where it was left.
                all_left = self._polled_without == self._paused_topics()
                polling = _started(self._poll())
                if self._sink.paused and all_left and time.monotonic() > self._looked_at + LOOK_AGAIN_SECONDS:
                    await self._set_up(polling)
                if prepared is not None:
                    confirmed = None
                    if prepared.batch is not None:
                        confirmed = await self._write(prepared.batch, prepared.records, polling)
                    self._leave(prepared)
                    earlier, committing = (
                        committing,
                        _started(self._commit(prepared, confirmed, after=committing)),
                    )
                    if earlier is not None:
                        await self._committed(earlier, polling)
                elif committing is not None and committing.done():
                    await committing
                    committing = None
            await polling
        except _Stopped:
            pass
        if committing is not None:
            await self._committed(committing, polling=None)

    async def _set_up(self, polling: "asyncio.Task[Any] | None" = None) -> None:
        before = dict(self._sink.paused)
        await self._through_outages(self._sink.setup, polling)
        self._looked_at = time.monotonic()
        for topic, reason in self._sink.paused.items() - before.items():
            log.error("topic_paused", sink=self._sink.name, topic=topic, reason=reason)
        for topic in before.keys() - self._sink.paused.keys():
            log.info("topic_resumed", sink=self._sink.name, topic=topic)

    def _paused_topics(self) -> frozenset[str]:
        return frozenset(self._settings.named(topic) for topic in self._sink.paused)

    async def _committed(self, committing: "asyncio.Task[None]", polling: "asyncio.Task[Any] | None") -> None:
        """Wait for a commit. The broker's answer is taken by a poll, by this one if no other is under way."""
        while not committing.done():
            if polling is None or polling.done():
                await asyncio.to_thread(self._intake.take_answers)
            await asyncio.wait({committing}, timeout=ANSWER_EVERY_SECONDS)
        await committing

    async def _rewind(self, topics: Collection[str]) -> None:
        await asyncio.to_thread(self._intake.rewind, topics)

    async def _poll(self) -> _Prepared[Batch] | None:
        return await asyncio.to_thread(self._collect_and_prepare)

    def _collect_and_prepare(self) -> _Prepared[Batch] | None:
        paused = self._paused_topics()
        while not self._left.empty():
            self._intake.left(self._left.get())
        self._intake.set_aside(paused)
        self._polled_without = paused
        messages = self._intake.collect()
        if not (offsets := self._intake.collected):
            return None
        begins = {(message.topic(), message.partition()): message.offset() for message in reversed(messages)}
        return _Prepared(self._sink.prepare(messages) if messages else None, len(messages), begins, offsets)

    async def _write(self, batch: Batch, records: int, polling: "asyncio.Task[Any]") -> Awaitable[None] | None:
        async def attempt() -> Awaitable[None] | None:
            self._progress.write_began()
            return await self._sink.write(batch)

        confirmed = await self._through_outages(attempt, polling)
        self._progress.wrote(records)
        return confirmed

    def _leave(self, prepared: _Prepared[Batch]) -> None:
        """Remember where the topics that could not be written are to be read on: those offsets are not committed."""
        paused = self._paused_topics()
        for place in [place for place in prepared.offsets if place[0] in paused]:
            self._left.put({place: prepared.begins.get(place, prepared.offsets[place])})
            del prepared.offsets[place]

    async def _commit(
        self, prepared: _Prepared[Batch], confirmed: Awaitable[None] | None, after: "asyncio.Task[None] | None"
    ) -> None:
        """Publish and confirm what follows from the batch, then commit its offsets; all after the batch before it."""
        try:
            if after is not None:
                await after
        finally:
            if confirmed is not None:
                await confirmed
        # While the broker is away the offsets are tried again: no later batch may come to carry them.
        while not await asyncio.to_thread(self._intake.commit, prepared.offsets):  # noqa: ASYNC110
            await asyncio.sleep(COMMIT_RETRY_SECONDS)
        self._progress.committed()

    async def _through_outages(
        self, attempt: Callable[[], Awaitable[T]], polling: "asyncio.Task[Any] | None" = None
    ) -> T:
        """Try until it succeeds, holding the place in the group meanwhile. Raises _Stopped if the sink is to stop."""
        failures = 0
        while True:
            try:
                result = await attempt()
            except Backpressure as verdict:
                self._progress.store_is_down(verdict)
                longest = verdict.longest_wait_seconds
            else:
                if failures:
                    self._progress.store_answers()
                    await asyncio.to_thread(self._intake.resume)
                return result
            if polling is not None:
                await asyncio.wait({polling})  # one thread polls at a time
            wait = min(longest, FIRST_WAIT_SECONDS * 2**failures) * random.uniform(0.5, 1.0)  # noqa: S311
            failures = min(failures + 1, 10)
            await self._hold(wait)

    async def _hold(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while (left := deadline - now()) > 0:
            if self._stopping.is_set():
                raise _Stopped
            await asyncio.to_thread(self._intake.hold, min(left, HOLD_SECONDS))


def _started(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """A task whose error is not complained of when the loop has ended for another one before it was awaited."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
