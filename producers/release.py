"""Releases held records: normalized anew under their own coordinates, so that newer records win.

Nothing is kept of how far a release is. A record is held until the Postgres sink has booked what came of it; sent
twice, it is a repeat. So a release that was killed is simply asked for again.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from producers.originals import Headers, Original, find_originals
from producers.replay_candidates import content_of
from runtime.epochs import real_partition, real_topic
from runtime.errors import DeliveryFailed
from runtime.failures import queries
from runtime.failures.actions import note
from runtime.failures.desk import Released
from runtime.failures.selection import Selection
from runtime.kafka_clients import MAX_PAYLOAD_BYTES, delivery_error, producer_config, reason
from runtime.raw_lookup import RawLookup
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import HEADER_MAPPING
from schemas.registry import ingested_datasets
from schemas.topics import FAILURES_TOPIC

log = structlog.get_logger()

STEP = 500
DELIVERY_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class RawRecord:
    """A raw record with the coordinates under which it was held. `timestamp` is the broker's, in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Normalizing(Protocol):
    """What the normalizer makes of a record: whether it is clean, and what is to be published, key and value."""

    def __call__(self, dataset: Dataset, record: RawRecord, now_ms: int) -> tuple[bool, bytes | None, bytes]: ...


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
        producer = Producer(
            producer_config(self._settings, log_level=0, **{"delivery.timeout.ms": DELIVERY_TIMEOUT_MS})
        )
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
                await asyncio.to_thread(self._send, producer, list(records.values()))
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
        if (source := row["source_name"]) in self._mappings:
            mapping = self._mappings[source]
            headers = tuple(header for header in headers if header[0] != HEADER_MAPPING)
            headers += ((HEADER_MAPPING, mapping),) if mapping else ()
        place = real_topic(row["topic"]), real_partition(row["partition"]), row["offset"], row["raw_timestamp"]
        return RawRecord(*place, original.key, value, headers)

    def _send(self, producer: Producer, records: Sequence[tuple[Dataset, RawRecord]]) -> None:
        """Blocking, until each has its delivery report. Raises DeliveryFailed."""
        errors: list[str] = []
        now_ms = time.time_ns() // 1_000_000

        def report(error: KafkaError | None, message: Message) -> None:
            if (trouble := delivery_error(error, message)) is not None:
                errors.append(reason(trouble))

        for dataset, record in records:
            clean, key, value = self._normalize(dataset, record, now_ms)
            topic = self._settings.named(dataset.clean_topic if clean else FAILURES_TOPIC)
            while True:
                try:
                    producer.produce(topic, value, key, record.partition, report)
                    break
                except BufferError:
                    producer.poll(0.1)
                except KafkaException as error:
                    errors.append(reason(error))
                    break
        producer.flush()
        if errors:
            raise DeliveryFailed(
                f"Kafka at {self._settings.kafka_bootstrap_servers} did not confirm {len(errors)} of {len(records)} "
                f"records ({errors[0]}); release them again: what has arrived is not released twice"
            )


def _kept(row: Mapping[str, Any]) -> Original:
    # Not as `find_originals`: most held records are complete, and the raw topic need not be asked for them.
    headers = tuple((name, value.encode()) for name, value in (row["raw_headers"] or {}).items())
    key = row["key"].encode() if row["key"] is not None else None
    return Original(key, row["payload"], headers, row["raw_timestamp"], "failure")
