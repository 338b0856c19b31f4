"""Normalizes stored records again, under their own coordinates, with the mapping that their source has now.

The newest come first (where the first record wins: the oldest), with every delete among them, so that a key which a
record gives up is free for the record that it had overtaken, and deleted records stay deleted. The Postgres sink takes
each record that is sent once per job; so a window that is sent twice changes nothing twice.
"""

import asyncio
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from producers.sources import SourcesError, load_sources
from runtime.kafka.confirmed import Outgoing
from runtime.kafka.lookup import RawLookup
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.patience import Patience
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import HEADER_KIND, HEADER_SOURCE, CleanRecord, FailedRecord
from schemas.field_reading import encode_mapping
from schemas.source_headers import PUSHED
from services.renormalizing import RawRecord, new_producer, normalize, remapped, send_all
from services.reprocessing.covered_records import Found, Partition, Window, read_window, windows
from services.reprocessing.forecast import forecast
from stores.checkpoints import CheckpointStore, Position
from stores.coverage import read_coverage, read_reprocessed
from stores.epochs import real_topic
from stores.failure_states import DOWNSTREAM_STAGES, TAKEN_SINCE
from stores.tables import ingest_failures
from stream_processors.normalize import Rejected

log = structlog.get_logger()

REMEDY = "the same command goes on where this one ended"

RETRIED = ("open", "parked")
"""States of failures whose records are reprocessed; in the others people act or have decided."""

EXAMPLES = 5
"""Invalid records that are told one by one."""

ASK_AGAIN_SECONDS = 0.3

_decode_clean = msgspec.json.Decoder(CleanRecord).decode
_decode_failed = msgspec.json.Decoder(FailedRecord).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Choice:
    """The records to reprocess: of `source`, by default of all, that came `since` then. Deletes: of all sources."""

    dataset: Dataset
    source: str | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Reading:
    """The way to read the records of a declared source now."""

    kind: str
    mapping: bytes | None


class Counts(msgspec.Struct):
    """Progress of a job. Numbers count records, but `offsets`, which counts those that were looked at."""

    offsets: int = 0
    topic: int = 0
    """Selected records that the raw topic still had."""
    landing: int = 0
    """Those that only the landing tables had."""
    sent: int = 0
    deletes: int = 0
    """Deletes among the sent ones."""
    acted_on: int = 0
    """Failures and held records that `headrace failures` deals with."""
    no_mapping: int = 0
    """Landed records with columns that no mapping tells how to read: their source is not in sources.toml."""
    nowhere: int = 0
    """Covered offsets without a record in topic or landing tables; markers of transactions are among them."""
    still_failed: int = 0
    """Failures that would fail again: they are not sent."""
    invalid: dict[str, int] = {}
    """Others that are invalid now, by reason: they are not sent, and what is stored of them stays."""
    examples: list[dict[str, Any]] = []
    forecast: dict[str, int] = {}
    """In a dry run, the outcomes to expect: changed, unchanged or superseded."""


class State(msgspec.Struct):
    """A job's checkpoint, from which the next start goes on."""

    job: str
    until: dict[str, int]
    """The end of each partition's coverage when the job began: what came later was read by today's rules."""
    done: dict[str, int] = {}
    """The last window of each partition that was sent and confirmed."""
    counts: Counts = msgspec.field(default_factory=Counts)
    since_ms: int = 0


Clean = Sequence[tuple[Partition, CleanRecord]]
"""Records as they are normalized now, with the partition that covers them."""

Progress = Callable[[Counts, int], None]
"""Called after every window, with the number of offsets to look at."""


def declared_readings(settings: Settings, dataset: Dataset, source: str | None) -> dict[str, Reading]:
    """The readings of the dataset's declared sources, by name.

    Raises SourcesError for a block that is wrong: of that source, or, without one, any.
    """
    sources = load_sources(settings.sources_file, settings)
    if broken := [lines for name, lines in sources.broken.items() if source in (None, name)]:
        raise SourcesError("\n".join(broken))
    about = [one.description for one in sources.values() if one.description.dataset == dataset]
    return {one.name: Reading(one.kind, encode_mapping(one.field_readings())) for one in about}


class Reprocess:
    """One run over the chosen records. `readings`: the declared sources of the dataset, by name."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, choice: Choice, readings: Mapping[str, Reading]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._choice = choice
        self._dataset = choice.dataset
        self._readings = readings
        self._mappings = {name: reading.mapping for name, reading in readings.items()}
        self._newest_first = not choice.dataset.first_wins

    async def plan(self, progress: Progress) -> Counts:
        """Foretell what `run` would do. Sends and changes nothing."""
        state = await self._begun()
        foretold: Counter[str] = Counter()
        async with aclosing(self._walk(state, progress)) as parts:
            async for connection, clean in parts:
                foretold += await forecast(connection, self._dataset, clean)
        return msgspec.structs.replace(state.counts, forecast=dict(foretold))

    async def run(self, scope: str, *, from_start: bool, progress: Progress) -> State:
        """Send the chosen records until the broker has confirmed them; goes on where an earlier run ended.

        Call `end` when Postgres has them all. Raises DeliveryFailed, CheckpointFailed.
        """
        producer = await new_producer(self._settings)
        store = self._store(scope)
        try:
            position = await store.begin(restart=from_start)
            state = msgspec.convert(position.at, State) if position and position.at else await self._begun()
            await _save(store, state)
            async with aclosing(self._walk(state, progress, store)) as parts:
                async for _, clean in parts:
                    messages = [self._message(record, state.job) for _, record in clean]
                    await send_all(self._settings, producer, messages, REMEDY)
        finally:
            await store.close()
        log.info("reprocessed", job=state.job, dataset=self._dataset.name, sent=state.counts.sent)
        return state

    async def outcomes(self, state: State, patience: Patience, progress: Callable[[int], None]) -> dict[str, int]:
        """Wait until Postgres has taken all that was sent, or the patience is over; returns the outcomes so far.

        `progress` is called with how many it has taken.
        """
        while True:
            async with self._engine.connect() as connection:
                outcomes = await read_reprocessed(connection, state.job)
            taken = sum(outcomes.values())
            progress(taken)
            patience.note(state.counts.sent - taken)
            if taken >= state.counts.sent or not patience.remaining:
                return outcomes
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def end(self, scope: str) -> None:
        """Forget the checkpoint: the next run begins from the start."""
        store = self._store(scope)
        try:
            await store.begin(restart=True)
        finally:
            await store.close()

    def _store(self, scope: str) -> CheckpointStore:
        depends = _encode((scope, self._choice.source, sorted(self._mappings.items())))
        digest = hashlib.blake2b(depends, digest_size=16).hexdigest()
        return CheckpointStore(self._settings, f"reprocess {self._dataset.name}", digest, uuid.uuid4().hex)

    async def _begun(self) -> State:
        until = {_name(partition): ranges.end() for partition, ranges in (await self._covered()).items()}
        since = self._choice.since
        return State(uuid.uuid4().hex, until, since_ms=round(since.timestamp() * 1000) if since else 0)

    async def _covered(self) -> dict[Partition, OffsetRanges]:
        raw = self._settings.named(self._dataset.raw_topic)
        async with self._engine.connect() as connection:
            covered = await read_coverage(connection)
        return {partition: one.accounted for partition, one in covered.items() if real_topic(partition[0]) == raw}

    async def _walk(
        self, state: State, progress: Progress, store: CheckpointStore | None = None
    ) -> AsyncGenerator[tuple[AsyncConnection, Clean]]:
        """The clean records, part by part. Once a window's parts have been taken it is done, and saved to `store`."""
        covered = {p: r.within(0, state.until.get(_name(p), 0)) for p, r in (await self._covered()).items()}
        total = sum(map(len, covered.values()))
        too_old = set[Partition]()
        async with RawLookup(self._settings) as lookup:
            for window in windows(covered, newest_first=self._newest_first):
                name = _name(window.partition)
                if window.partition in too_old or self._is_done(window, state.done.get(name)):
                    continue
                async with self._engine.connect() as connection:
                    found, latest = 0, 0
                    failures = await self._failures(connection, window)
                    async for records in read_window(connection, lookup, window, newest_first=self._newest_first):
                        found += len(records)
                        latest = max([latest, *(one.record.timestamp for one in records)])
                        yield connection, self._normalized(records, failures, state)
                state.counts.offsets += len(window.offsets)
                state.counts.nowhere += len(window.offsets) - found
                state.done[name] = window.number
                if found and latest < state.since_ms and self._newest_first:
                    too_old.add(window.partition)  # as is all that came earlier
                if store is not None:
                    await _save(store, state)
                progress(state.counts, total)

    def _is_done(self, window: Window, last: int | None) -> bool:
        return last is not None and (window.number >= last if self._newest_first else window.number <= last)

    async def _failures(self, connection: AsyncConnection, window: Window) -> dict[int, bool]:
        """The offsets of failures: True for those that are not to be reprocessed."""
        f = ingest_failures.c
        topic, partition = window.partition
        within = f.offset.between(next(iter(window.offsets))[0], window.offsets.end())
        acted_on = f.state.not_in(RETRIED) | f.edited_payload.is_not(None)
        query = select(f.offset, acted_on).where(f.topic == topic, f.partition == partition, within)
        query = query.where(f.stage.not_in(DOWNSTREAM_STAGES), f.state.not_in(TAKEN_SINCE))
        return {offset: acted for offset, acted in await connection.execute(query)}  # noqa: C416 (no pairs to mypy)

    def _normalized(self, found: Sequence[Found], failures: Mapping[int, bool], state: State) -> Clean:
        """The chosen records that are clean; counts them all."""
        counts, now_ms = state.counts, time.time_ns() // 1_000_000
        clean: list[tuple[Partition, CleanRecord]] = []
        for partition, record, landed in found:
            source = (dict(record.headers).get(HEADER_SOURCE) or b"").decode("utf-8", "replace") or PUSHED
            deletes = record.value is None
            if record.timestamp < state.since_ms or not (deletes or self._choice.source in (None, source)):
                continue
            counts.landing += landed
            counts.topic += not landed
            if failures.get(record.offset):
                counts.acted_on += 1
                continue
            outcome = normalize(self._dataset, self._as_now(record, source, landed=landed), now_ms)
            if isinstance(outcome, Rejected):
                if record.offset in failures:
                    counts.still_failed += 1
                else:
                    _count_invalid(counts, _decode_failed(outcome.value))
                continue
            made = _decode_clean(outcome.value)
            if landed and made.unknown and source not in self._readings:
                counts.no_mapping += 1
                continue
            counts.sent += 1
            counts.deletes += deletes
            clean.append((partition, made))
        return clean

    def _as_now(self, record: RawRecord, source: str, *, landed: bool) -> RawRecord:
        """The record with the headers that its source would give it now."""
        headers = remapped(record.headers, source, self._mappings)
        if landed and (reading := self._readings.get(source)):
            others = (header for header in headers if header[0] != HEADER_KIND)
            headers = (*others, (HEADER_KIND, reading.kind.encode()))
        elif landed and source == PUSHED:
            headers = (*headers, (HEADER_KIND, PUSHED.encode()))
        return replace(record, headers=headers)

    def _message(self, record: CleanRecord, job: str) -> Outgoing:
        topic = self._settings.named(self._dataset.clean_topic)
        value = _encode(msgspec.structs.replace(record, reprocess=job))
        return Outgoing(topic, record.origin.partition, record.key.encode(), value)


def _count_invalid(counts: Counts, failed: FailedRecord) -> None:
    counts.invalid[failed.reason] = counts.invalid.get(failed.reason, 0) + 1
    if len(counts.examples) < EXAMPLES:
        origin = failed.origin
        about = {"key": failed.key, "reason": failed.reason, "message": failed.message}
        place = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
        counts.examples.append(about | place)


async def _save(store: CheckpointStore, state: State) -> None:
    await store.save(Position(msgspec.to_builtins(state)))


def _name(partition: Partition) -> str:
    return f"{partition[0]}/{partition[1]}"
