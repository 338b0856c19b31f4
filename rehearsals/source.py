"""A source that fails as a rehearsal asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from producers.source import ResumableSource, Source, SourceBatch, SourceDescription, SourceFailed, SourceRecord
from rehearsals.file import Rehearsal
from rehearsals.watch import RehearsalWatch, arm_crash, drawn, watch_for
from runtime.fault_points import crash_here
from runtime.settings import Settings
from stores.checkpoints import Position


def rehearsed_source(source: Source, settings: Settings) -> Source:
    """The source itself; where REHEARSALS is true, the same with what is rehearsed of producers."""
    watch = watch_for(settings, "producers")
    if watch is None:
        return source
    return (
        RehearsedResumableSource(source, watch)
        if isinstance(source, ResumableSource)
        else RehearsedSource(source, watch)
    )


class RehearsedSource:
    """Implements Source around another one. A rehearsed outage raises SourceFailed."""

    def __init__(self, source: Source, watch: RehearsalWatch) -> None:
        self._source = source
        self._watch = watch

    @property
    def description(self) -> SourceDescription:
        return self._source.description

    def batches(self) -> AsyncIterator[SourceBatch]:
        return self._rehearsed(self._source.batches())

    async def _rehearsed(self, batches: AsyncIterator[SourceBatch]) -> AsyncIterator[SourceBatch]:
        name, watch = self.description.name, self._watch
        async with aclosing(batches):  # type: ignore[type-var]
            async for batch in batches:
                if slow := watch.strikes_batch("slow", lambda: (name,)):
                    await asyncio.sleep(slow.delay_seconds)
                if outage := watch.strikes_batch("outage", lambda: (name,)):
                    raise SourceFailed(name, f"rehearsal {outage}")
                if crash := watch.strikes_batch("crash", lambda: (name,)):
                    arm_crash(crash, "batch_sent")
                yield self._with_invalid(batch)
                crash_here("batch_sent")

    def _with_invalid(self, batch: SourceBatch) -> SourceBatch:
        for one in self._watch.active():
            if one.kind == "invalid" and one.source in (None, self.description.name):
                batch = batch._replace(records=[self._struck(record, one) for record in batch.records])
        return batch

    def _struck(self, record: SourceRecord, rehearsal: Rehearsal) -> SourceRecord:
        # Drawn, not computed: a record has no coordinates yet, and none is sent twice in a run.
        if record.problem is not None or record.value is None or not drawn(rehearsal):
            return record
        self._watch.count(rehearsal)
        return record._replace(problem=f"rehearsal;rehearsal {rehearsal}")


class RehearsedResumableSource(RehearsedSource):
    """Implements ResumableSource around another one."""

    def __init__(self, source: ResumableSource, watch: RehearsalWatch) -> None:
        super().__init__(source, watch)
        self._resumable = source

    @property
    def scope(self) -> str:
        return self._resumable.scope

    def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        return self._rehearsed(self._resumable.resume(since))
