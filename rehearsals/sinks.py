"""Sinks that fail as rehearsals ask for."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Generic, cast

from rehearsals.file import Stage
from rehearsals.watch import RehearsalWatch, arm_crash, watch_for
from runtime.errors import Backpressure
from runtime.fault_points import FaultPoint, crash_here
from runtime.settings import Settings
from sinks.sink import Batch, Message, Sink

ANY_SINK: tuple[FaultPoint, ...] = ("batch_written",)
POSTGRES: tuple[FaultPoint, ...] = ("batch_written", "rows_committed", "changes_confirmed")


def rehearsed_sink(name: Stage, build: Callable[[Settings], Sink[Any]], settings: Settings) -> Sink[Any]:
    """The sink that `build` makes; where REHEARSALS is true, one with what is rehearsed of the stage `name`."""
    watch = watch_for(settings, name)
    if watch is None:
        return build(settings)
    # Imported here: each sink's process loads the client of its own store only.
    if name == "postgres":
        from rehearsals.postgres import RehearsedPostgresSink
        from sinks.postgres.batch import Batch as PostgresBatch

        return RehearsedSink(RehearsedPostgresSink(settings, watch), watch, PostgresBatch.sources, POSTGRES)
    if name == "elasticsearch":
        from rehearsals.elasticsearch import RehearsedElasticsearchSink

        return RehearsedSink(
            RehearsedElasticsearchSink(settings, cast("str", settings.elasticsearch_url), watch), watch
        )
    return RehearsedSink(build(settings), watch)


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
            arm_crash(crash, random.choice(self._points))  # noqa: S311 (no secret)
        confirmed = await self._sink.write(batch)
        crash_here("batch_written")
        return confirmed

    async def close(self) -> None:
        await self._sink.close()
