"""A source that fails as a rehearsal asks for. A run reads through it only where REHEARSALS is true."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from producers.source import SourceBatch, SourceFailed, SourceRecord
from runtime.fault_points import arm, crash_here
from runtime.rehearsal_watch import INJECTED, RehearsalWatch
from runtime.rehearsals import Rehearsal

log = structlog.get_logger()


async def rehearsed_batches(
    name: str, batches: AsyncIterator[SourceBatch], watch: RehearsalWatch
) -> AsyncIterator[SourceBatch]:
    """The batches of a source of that name, with what is rehearsed. Raises SourceFailed for a rehearsed outage too."""
    async with aclosing(batches):  # type: ignore[type-var]
        async for batch in batches:
            if slow := watch.strikes_batch("slow", lambda: (name,)):
                await asyncio.sleep(slow.delay_seconds)
            if outage := watch.strikes_batch("outage", lambda: (name,)):
                raise SourceFailed(name, f"rehearsal {outage}")
            if crash := watch.strikes_batch("crash", lambda: (name,)):
                log.warning("rehearsal_crash", rehearsal=str(crash), point="batch_sent")
                arm("batch_sent")
            yield _spoilt(name, batch, watch)
            crash_here("batch_sent")


def _spoilt(name: str, batch: SourceBatch, watch: RehearsalWatch) -> SourceBatch:
    for one in watch.active():
        if one.kind == "invalid" and one.source in (None, name):
            batch = batch._replace(records=[_struck(record, one) for record in batch.records])
    return batch


def _struck(record: SourceRecord, rehearsal: Rehearsal) -> SourceRecord:
    # Drawn, not computed: a record has no coordinates yet, and none is sent twice in a run.
    if record.problem is not None or record.value is None or random.random() * 100 >= rehearsal.percent:  # noqa: S311
        return record
    INJECTED.labels(rehearsal.stage, rehearsal.kind).inc()
    return record._replace(problem=f"rehearsal;rehearsal {rehearsal}")
