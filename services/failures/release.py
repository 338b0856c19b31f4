"""Releases held records: normalizes them again under their own coordinates, so that newer records win.

Nothing is kept of how far a release is. A record stays held until the Postgres sink has taken it; sent twice, it is a
repeat. After a kill, release again.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from runtime.kafka.confirmed import Outgoing
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from runtime.uninterrupted import uninterrupted
from schemas.field_reading import encode_mapping
from schemas.registry import dataset_named, ingested_datasets
from schemas.topics import FAILURES_TOPIC
from services.failures.actions import note
from services.failures.listing import Failure, following
from services.failures.raw_records import find_raw_records, kept_record, to_send
from services.failures.selection import Selection
from services.renormalizing import RawRecord, new_producer, normalize, remapped, send_all
from stores.epochs import real_partition, real_topic
from stores.failure_states import ActionRefused
from stores.postgres_engine import postgres_engine
from stream_processors.normalize import Normalized

log = structlog.get_logger()

STEP = 500
REMEDY = "release them again: what has arrived is not released twice"


@dataclass(frozen=True)
class Released:
    """Numbers of records that were released, and that stay held because their bytes are nowhere any more."""

    sent: int
    gone: int


async def release(settings: Settings, selection: Selection, who: str, *, remap: bool = False) -> Released:
    """Normalize the selected held records again, with `remap` by the mappings of sources.toml now.

    Returns when the broker has confirmed what came of each. Idempotent. Raises DeliveryFailed when it has not, and
    ActionRefused where sources.toml is wrong.
    """
    mappings = await asyncio.to_thread(_mappings, settings) if remap else {}
    held = replace(selection, states=("held",))
    producer = await new_producer(settings)
    sent = gone = after = 0
    engine = postgres_engine(settings, poolclass=NullPool)
    try:
        async with RawLookup(settings) as lookup:
            while True:
                async with engine.begin() as connection:
                    failures = await following(connection, held, STEP, after)
                    records = await _raw_records(connection, lookup, failures)
                if not failures:
                    log.info("released", records=sent, gone=gone, who=who)
                    return Released(sent, gone)
                messages = [
                    _normalized(settings, failure, records[failure["id"]], mappings)
                    for failure in failures
                    if failure["id"] in records
                ]
                await send_all(settings, producer, messages, REMEDY)
                async with engine.begin() as connection:
                    await note(connection, list(records), "released", who)
                after = failures[-1]["id"]
                sent, gone = sent + len(records), gone + len(failures) - len(records)
    finally:
        await uninterrupted(engine.dispose())


async def _raw_records(
    connection: AsyncConnection, lookup: RawLookup, failures: Sequence[Failure]
) -> dict[int, RawRecord]:
    """The records to normalize, by failure id, without those that are nowhere any more."""
    # Most are complete in Postgres, and the raw topic need not be asked for them.
    complete = {failure["id"]: record for failure in failures if (record := kept_record(failure))}
    cut = [failure for failure in failures if failure["id"] not in complete]
    raw = complete | await find_raw_records(connection, lookup, cut)
    known = {dataset.name for dataset in ingested_datasets()}
    return {
        failure["id"]: to_send(failure, raw[failure["id"]])
        for failure in failures
        if failure["id"] in raw and failure["dataset"] in known
    }


def _normalized(settings: Settings, failure: Failure, raw: RawRecord, mappings: Mapping[str, bytes | None]) -> Outgoing:
    dataset = dataset_named(failure["dataset"])
    record = replace(
        raw,
        topic=real_topic(raw.topic),
        partition=real_partition(raw.partition),
        timestamp=failure["raw_timestamp"],
        headers=remapped(raw.headers, failure["source_name"], mappings),
    )
    outcome = normalize(dataset, record, time.time_ns() // 1_000_000)
    topic = dataset.clean_topic if isinstance(outcome, Normalized) else FAILURES_TOPIC
    return Outgoing(settings.named(topic), record.partition, outcome.key, outcome.value)


def _mappings(settings: Settings) -> dict[str, bytes | None]:
    from producers.sources import SourcesError, load_sources  # here, since every kind of source is loaded with it

    try:
        sources = load_sources(settings.sources_file, settings)
    except SourcesError as error:
        raise ActionRefused(str(error)) from error
    return {name: encode_mapping(source.description.field_readings()) for name, source in sources.items()}
