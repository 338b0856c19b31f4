"""A sink that fails as a rehearsal asks for. `headrace sink` wraps a sink in it only where REHEARSALS is true."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Generic

import structlog

from runtime.errors import Backpressure
from runtime.fault_points import FaultPoint, arm, crash_here
from runtime.rehearsal_watch import RehearsalWatch
from sinks.sink import Batch, Message, Sink

log = structlog.get_logger()

ANY_SINK: tuple[FaultPoint, ...] = ("batch_written",)
POSTGRES: tuple[FaultPoint, ...] = ("batch_written", "rows_committed", "changes_confirmed")


class RehearsedOutage(Backpressure):
    """The store is said to be down. Tried again often, so that the rehearsal ends when it says."""

    longest_wait_seconds = 1.0


class RehearsedSink(Generic[Batch]):
    """Implements Sink around another one. `sources` tells whose records a batch holds, `points` where it may die."""

    def __init__(
        self,
        sink: Sink[Batch],
        watch: RehearsalWatch,
        sources: Callable[[Batch], Collection[str]] = lambda _: (),
        points: Sequence[FaultPoint] = ANY_SINK,
    ) -> None:
        self._sink = sink
        self._watch = watch
        self._sources = sources
        self._points = points

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def group(self) -> str:
        return self._sink.group

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(self._sink.topics)

    @property
    def paused(self) -> Mapping[str, str]:
        return self._sink.paused

    async def setup(self) -> None:
        await self._sink.setup()

    def prepare(self, messages: Sequence[Message]) -> Batch:
        return self._sink.prepare(messages)

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        """Raises RehearsedOutage beside what the sink itself raises."""

        def sources() -> Collection[str]:
            return self._sources(batch)

        if slow := self._watch.strikes_batch("slow", sources):
            await asyncio.sleep(slow.delay_seconds)
        if outage := self._watch.strikes_batch("outage", sources):
            raise RehearsedOutage(self.name, f"rehearsal {outage}")
        if crash := self._watch.strikes_batch("crash", sources):
            point = random.choice(self._points)  # noqa: S311 (no secret)
            log.warning("rehearsal_crash", rehearsal=str(crash), point=point)
            arm(point)
        confirmed = await self._sink.write(batch)
        crash_here("batch_written")
        return confirmed

    async def close(self) -> None:
        await self._sink.close()
