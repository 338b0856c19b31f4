"""A normalizer that fails as a rehearsal asks for. Built only where REHEARSALS is true."""

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from runtime.fault_points import arm, crash_here
from runtime.rehearsal_watch import RehearsalWatch
from schemas.dataset import Dataset
from schemas.errors import InvalidRecord
from schemas.source_headers import PUSHED, Headers, header_text, source_headers
from stream_processors.batch_transport import Batch
from stream_processors.normalize import Normalized, RawRecord, RecordNormalizer, Rejected

HOLD_SECONDS = 0.25
"""Between two draws while an outage is rehearsed."""

log = structlog.get_logger()


class BatchStage(Protocol):
    """What an agent needs of a stage."""

    async def take(self, batch: Batch, confirm: Callable[[], None]) -> None:
        """Normalize a batch; see NormalizerStage."""


class RehearsedNormalizer:
    """Rejects the records that a rehearsal strikes, and normalizes all others."""

    def __init__(self, dataset: Dataset, watch: RehearsalWatch) -> None:
        self._inner = RecordNormalizer(dataset)
        self._watch = watch

    def normalize(self, record: RawRecord, now_ms: int) -> Normalized | Rejected:
        """Never raises for what a producer can send."""
        if self._watch.active():
            rehearsal = self._watch.strikes_record(_source(record.headers), record.partition, record.offset)
            if rehearsal is not None:
                return self._inner.reject(record, InvalidRecord("rehearsal", f"rehearsal {rehearsal}"), now_ms)
        return self._inner.normalize(record, now_ms)


class RehearsedStage:
    """Holds up, slows down or kills a stage before it takes a batch."""

    def __init__(self, stage: BatchStage, watch: RehearsalWatch) -> None:
        self._stage = stage
        self._watch = watch

    async def take(self, batch: Batch, confirm: Callable[[], None]) -> None:
        """See NormalizerStage. An outage holds the batch, and with it its partitions, until it ends."""

        def sources() -> Collection[str]:
            return {_source(record.headers) for record in batch}

        if slow := self._watch.strikes_batch("slow", sources):
            await asyncio.sleep(slow.delay_seconds)
        while self._watch.strikes_batch("outage", sources):  # noqa: ASYNC110 (what is waited for is a clock)
            await asyncio.sleep(HOLD_SECONDS)
        if crash := self._watch.strikes_batch("crash", sources):
            log.warning("rehearsal_crash", rehearsal=str(crash), point="outputs_produced")
            arm("outputs_produced")
        await self._stage.take(batch, confirm)
        crash_here("outputs_produced")


def _source(headers: Headers | None) -> str:
    return header_text(source_headers(headers)[0]) or PUSHED
