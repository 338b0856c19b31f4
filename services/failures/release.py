"""Releases held records: normalized anew under their own coordinates, so that newer records win.

Nothing is kept of how far a release is. A record is held until the Postgres sink has booked what came of it; sent
twice, it is a repeat. So a release that was killed is simply asked for again.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.kafka.clients import MAX_PAYLOAD_BYTES
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import ingested_datasets
from schemas.topics import FAILURES_TOPIC
from services.failures import listing as queries
from services.failures.actions import note
from services.failures.candidates import content_of
from services.failures.desk import Released
from services.failures.raw_records import Original, find_originals
from services.failures.selection import Selection
from services.renormalizing import Made, Normalizing, RawRecord, new_producer, remapped, send
from stores.epochs import real_partition, real_topic

log = structlog.get_logger()

STEP = 500
REMEDY = "release them again: what has arrived is not released twice"


class Release:
    """Releases the selected held records. `mappings`: by source name, what to read them with instead of their own."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, normalize: Normalizing, mappings: Mapping[str, bytes | None]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._normalize = normalize
        self._mappings = mappings
        self._datasets = {dataset.name: dataset for dataset in ingested_datasets()}

    async def run(self, selection: Selection, who: str) -> Released:
        """Returns when the broker has confirmed what came of each. Raises DeliveryFailed when it does not."""
        wanted = replace(selection, states=("held",))
        producer = new_producer(self._settings)
        lookup = RawLookup(self._settings)
        sent = gone = after = 0
        try:
            while True:
                async with self._engine.begin() as connection:
                    rows = await queries.following(connection, wanted, STEP, after)
                    records = await self._records(connection, lookup, rows)
                if not rows:
                    log.info("released", records=sent, gone=gone, who=who)
                    return Released(sent, gone)
                made = list(self._made(records.values()))
                await asyncio.to_thread(send, self._settings, producer, made, REMEDY)
                async with self._engine.begin() as connection:
                    await note(connection, list(records), "released", who)
                after = rows[-1]["id"]
                sent, gone = sent + len(records), gone + len(rows) - len(records)
        finally:
            await asyncio.to_thread(lookup.close)

    async def _records(
        self, connection: AsyncConnection, lookup: RawLookup, rows: Sequence[Mapping[str, Any]]
    ) -> dict[int, tuple[Dataset, RawRecord]]:
        """What is to be normalized anew, by failure id, without what is nowhere any more."""
        cut = [row for row in rows if len(row["payload"] or b"") >= MAX_PAYLOAD_BYTES]
        found = await find_originals(connection, lookup, cut)
        records = {}
        for row in rows:
            dataset = self._datasets.get(row["dataset"])
            original = found.get(row["id"]) if row in cut else _kept(row)
            if dataset is not None and original is not None:
                records[row["id"]] = dataset, self._record(row, original)
        return records

    def _record(self, row: Mapping[str, Any], original: Original) -> RawRecord:
        value, headers = content_of(row, original)
        headers = remapped(headers, row["source_name"], self._mappings)
        place = real_topic(row["topic"]), real_partition(row["partition"]), row["offset"], row["raw_timestamp"]
        return RawRecord(*place, original.key, value, headers)

    def _made(self, records: Iterable[tuple[Dataset, RawRecord]]) -> Iterator[Made]:
        now_ms = time.time_ns() // 1_000_000
        for dataset, record in records:
            clean, key, value = self._normalize(dataset, record, now_ms)
            topic = self._settings.named(dataset.clean_topic if clean else FAILURES_TOPIC)
            yield Made(topic, record.partition, key, value)


def _kept(row: Mapping[str, Any]) -> Original:
    # Not as `find_originals`: most held records are complete, and the raw topic need not be asked for them.
    headers = tuple((name, value.encode()) for name, value in (row["raw_headers"] or {}).items())
    key = row["key"].encode() if row["key"] is not None else None
    return Original(key, row["payload"], headers, row["raw_timestamp"], "failure")
