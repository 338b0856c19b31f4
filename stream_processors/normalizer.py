"""`<dataset>.raw` → `<dataset>.clean` or `failures`, batch by batch, into the partition that the record came from."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka import Producer

from runtime.instruments import BoundedLabels
from runtime.metrics import (
    NORMALIZED,
    NORMALIZER_BATCH_RECORDS,
    NORMALIZER_BATCH_SECONDS,
    NORMALIZER_FAILURES,
    NORMALIZER_HOLDS,
)
from runtime.settings import Settings
from runtime.tracing import Followed, Received, follow
from schemas.dataset import Dataset
from schemas.source_headers import LONGEST_NAME, PUSHED, SourceHeaders, header_text, source_headers
from schemas.topics import FAILURES_TOPIC
from stream_processors.batch_transport import Batch
from stream_processors.confirmations import Confirmations, Outstanding
from stream_processors.held import REMEDY, Held, Source, SourceLimits, held, may_be_held
from stream_processors.normalize import STAGE, Normalized, RawRecord, RecordNormalizer, Rejected
from stream_processors.normalizer_metrics import Counts, UnknownFields

log = structlog.get_logger()

SLICE_RECORDS = 250
"""Records between two breaths for the event loop: some 3 ms of work, so heartbeats and acks are never late."""

QUEUE_FULL_SECONDS = 0.005
"""Wait before another try when librdkafka's queue is full."""


HELD = ""
"""Counts held records beside the reasons, none of which is empty."""


class NormalizerStage:
    """Normalizes the batches of one dataset."""

    def __init__(
        self, dataset: Dataset, settings: Settings, producer: Producer, confirmations: Confirmations, counts: Counts
    ) -> None:
        self._dataset = dataset.name
        self._clean_topic = settings.named(dataset.clean_topic)
        self._failures_topic = settings.named(FAILURES_TOPIC)
        self._producer = producer
        self._confirmations = confirmations
        self._counts = counts
        self._limits = SourceLimits(settings)
        self._normalizer = RecordNormalizer(dataset)
        self._reasons = BoundedLabels()
        self._unknown_fields = UnknownFields(dataset.name)
        self._clean_count = NORMALIZED.labels(dataset.name, "clean")
        self._failed_count = NORMALIZED.labels(dataset.name, "failed")
        self._held_count = NORMALIZED.labels(dataset.name, "held")
        self._batch_records = NORMALIZER_BATCH_RECORDS.labels(dataset.name)
        self._batch_seconds = NORMALIZER_BATCH_SECONDS.labels(dataset.name)

    async def take(self, batch: Batch, confirm: Callable[[], None]) -> None:
        """Normalize a batch and produce what comes out. Returns before the broker has confirmed it.

        `confirm` is called when it has, and all earlier batches of the partition too. Raises KafkaException when a
        record cannot be queued at all; nothing of the batch is confirmed then. Records of a source that is over the
        failure limit go to `failures` as held, whatever would have come of them.
        """
        size = sum(len(record.value or b"") for record in batch)
        reasons: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        began = time.monotonic()

        traced = follow(STAGE, map(_received, batch))

        def confirmed() -> None:
            failed = reasons.total()
            self._batch_seconds.observe(time.monotonic() - began)
            self._counts.confirmed(len(batch) - failed, failed)
            confirm()
            if traced is not None:
                traced.end()

        partition = batch[0].topic, batch[0].partition
        outstanding = await self._confirmations.begin(partition, size, confirmed)
        self._counts.records_in += len(batch)
        now_ms = int(time.time() * 1000)
        for start in range(0, len(batch), SLICE_RECORDS):
            records = batch[start : start + SLICE_RECORDS]
            await self._take_slice(records, outstanding, now_ms, reasons, unknown, traced)
            await asyncio.sleep(0)
        outstanding.expect(len(batch))
        self._count(len(batch), reasons, unknown)

    async def _take_slice(
        self,
        records: Batch,
        outstanding: Outstanding,
        now_ms: int,
        reasons: Counter[str],
        unknown: Counter[str],
        traced: Followed | None,
    ) -> None:
        normalize, produce, on_delivery = self._normalizer.normalize, self._producer.produce, outstanding.delivered
        outcomes: list[Any] = [normalize(record, now_ms) for record in records]
        failed = sum([type(outcome) is Rejected for outcome in outcomes])
        if not self._limits.ignores(failed):
            outcomes = self._held_where_over(records, outcomes, now_ms)
        if traced is not None:
            for record, outcome in zip(records, outcomes, strict=True):
                traced.outcome(record.offset, _outcome_of(outcome))
        for record, outcome in zip(records, outcomes, strict=True):
            if type(outcome) is Normalized:
                topic = self._clean_topic
                if outcome.unknown:
                    unknown.update(outcome.unknown)
            else:
                topic = self._failures_topic
                reasons[HELD if type(outcome) is Held else outcome.reason] += 1
            while True:
                try:
                    if traced is None:
                        produce(topic, outcome.value, outcome.key, record.partition, on_delivery)
                    else:
                        headers = traced.headers(record.offset)
                        produce(topic, outcome.value, outcome.key, record.partition, on_delivery, headers=headers)
                    break
                except BufferError:
                    await asyncio.sleep(QUEUE_FULL_SECONDS)

    def _held_where_over(self, records: Batch, outcomes: list[Any], now_ms: int) -> list[Any]:
        """The same outcomes, but of each source that is over the failure limit the records instead."""
        headers = [SourceHeaders(*source_headers(record.headers)) for record in records]
        names = [(one.name or b"")[:LONGEST_NAME] or None for one in headers]
        counts: dict[Source, tuple[int, int]] = {}
        for one, name, outcome in zip(headers, names, outcomes, strict=True):
            if may_be_held(one):
                failed, seen = counts.get(name, (0, 0))
                counts[name] = failed + (type(outcome) is Rejected), seen + 1
        over = self._limits.take(counts)
        self._tell()
        if not over:
            return outcomes
        return [
            held(self._dataset, record, one, outcome, now_ms) if name in over and may_be_held(one) else outcome
            for record, one, name, outcome in zip(records, headers, names, outcomes, strict=True)
        ]

    def _tell(self) -> None:
        """Say once of each source that it is over the limit, and once that it is not any more."""
        before = self._counts.holding.get(self._dataset, {})
        now = {header_text(source) or PUSHED: why for source, why in self._limits.over.items()}
        if now == before:
            return
        for source in now.keys() - before.keys():
            log.warning("source_held", dataset=self._dataset, source=source, reason=now[source], remedy=REMEDY)
        for source in before.keys() - now.keys():
            log.info("source_held_no_longer", dataset=self._dataset, source=source)
        NORMALIZER_HOLDS.labels(self._dataset).set(bool(now))
        self._counts.holding = self._counts.holding | {self._dataset: now}

    def _count(self, records: int, reasons: Counter[str], unknown: Counter[str]) -> None:
        self._batch_records.observe(records)
        self._clean_count.inc(records - reasons.total())
        if reasons:
            self._held_count.inc(reasons[HELD])
            self._failed_count.inc(reasons.total() - reasons[HELD])
            for reason, count in reasons.items():
                if reason is not HELD:
                    NORMALIZER_FAILURES.labels(self._dataset, self._reasons.of(reason)).inc(count)
        if unknown and (new := self._unknown_fields.count(unknown)):
            log.info("unknown_fields", dataset=self._dataset, fields=new)


def _received(record: RawRecord) -> Received:
    return Received(record.offset, record.topic, record.partition, record.offset, record.headers)


def _outcome_of(outcome: Any) -> str:
    if type(outcome) is Normalized:
        return "clean"
    return "held" if type(outcome) is Held else "failed"
