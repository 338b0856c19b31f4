"""A normalizer that fails as a rehearsal asks for."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from rehearsals.file import REASON
from rehearsals.watch import RehearsalWatch, arm_crash
from runtime.fault_points import crash_here
from schemas.dataset import Dataset
from schemas.errors import InvalidRecord
from schemas.source_headers import PUSHED, Headers, header_text, source_headers
from stream_processors.batch_transport import Batch
from stream_processors.normalize import Normalized, RawRecord, RecordNormalizer, Rejected
from stream_processors.normalizer import NormalizerStage

REDRAW_SECONDS = 0.25
"""Between two draws while an outage is rehearsed."""


class RehearsedNormalizer(RecordNormalizer):
    """Rejects the records that a rehearsal strikes, and normalizes all others."""

    def __init__(self, dataset: Dataset, watch: RehearsalWatch) -> None:
        super().__init__(dataset)
        self._watch = watch

    def normalize(self, record: RawRecord, now_ms: int) -> Normalized | Rejected:
        if self._watch.active():
            rehearsal = self._watch.strikes_record(_source(record.headers), record.partition, record.offset)
            if rehearsal is not None:
                return self.reject(record, InvalidRecord(REASON, f"rehearsal {rehearsal}"), now_ms)
        return super().normalize(record, now_ms)


class RehearsedStage(NormalizerStage):
    """A stage that is held up, slowed down or killed before it takes a batch. `stage`: NormalizerStage's arguments."""

    def __init__(self, watch: RehearsalWatch, dataset: Dataset, *stage: Any) -> None:
        super().__init__(dataset, *stage)
        self._normalizer = RehearsedNormalizer(dataset, watch)
        self._watch = watch

    async def take(self, batch: Batch, confirm: Callable[[], None]) -> None:
        """See NormalizerStage. An outage holds the batch, and with it its partitions, until it ends."""

        def sources() -> Collection[str]:
            return {_source(record.headers) for record in batch}

        if slow := self._watch.strikes_batch("slow", sources):
            await asyncio.sleep(slow.delay_seconds)
        while self._watch.strikes_batch("outage", sources):  # noqa: ASYNC110 (what is waited for is a clock)
            await asyncio.sleep(REDRAW_SECONDS)
        if crash := self._watch.strikes_batch("crash", sources):
            arm_crash(crash, "outputs_produced")
        await super().take(batch, confirm)
        crash_here("outputs_produced")


def _source(headers: Headers | None) -> str:
    return header_text(source_headers(headers)[0]) or PUSHED
