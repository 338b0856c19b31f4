"""Sinks that fail as rehearsals ask for."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Generic, cast

from rehearsals.watch import RehearsalWatch, arm_crash, watch_for
from runtime.errors import Backpressure
from runtime.fault_points import FaultPoint, crash_here
from runtime.settings import Settings
from schemas.sinks import DeclaredSink, load
from sinks.sink import Batch, Sink

ANY_SINK: tuple[FaultPoint, ...] = ("batch_written",)
POINTS: dict[str, tuple[FaultPoint, ...]] = {"postgres": (*ANY_SINK, "rows_committed", "changes_confirmed")}
"""Where a sink may die on purpose."""


def rehearsed_sink(declared: DeclaredSink, settings: Settings) -> Sink[Any]:
    """The declared sink; where REHEARSALS is true, one that fails as rehearsals of its stage ask for."""
    watch = watch_for(settings, declared.name)
    if watch is None:
        return cast("Sink[Any]", load(declared.code)(settings))
    inner = load(declared.refusing)(settings, watch) if declared.refusing else load(declared.code)(settings)
    return RehearsedSink(inner, watch)


class RehearsedOutage(Backpressure):
    """The store is said to be down. Tried again often, so that the rehearsal ends when it says."""

    longest_wait_seconds = 1.0


class RehearsedSink(Generic[Batch]):
    """Implements Sink around another one. Batches that know whose records they hold have a method `sources`."""

    def __init__(self, sink: Sink[Batch], watch: RehearsalWatch) -> None:
        self._sink = sink
        self._watch = watch
        self.name, self.setup, self.prepare, self.close = sink.name, sink.setup, sink.prepare, sink.close

    @property
    def paused(self) -> Mapping[str, str]:
        return self._sink.paused

    async def write(self, batch: Batch) -> Awaitable[None] | None:
        """Raises RehearsedOutage beside what the sink itself raises."""
        sources: Callable[[], Collection[str]] = getattr(batch, "sources", tuple)
        if slow := self._watch.strikes_batch("slow", sources):
            await asyncio.sleep(slow.delay_seconds)
        if outage := self._watch.strikes_batch("outage", sources):
            raise RehearsedOutage(self.name, f"rehearsal {outage}")
        if crash := self._watch.strikes_batch("crash", sources):
            arm_crash(crash, random.choice(POINTS.get(self.name, ANY_SINK)))  # noqa: S311 (no secret)
        confirmed = await self._sink.write(batch)
        crash_here("batch_written")
        return confirmed
