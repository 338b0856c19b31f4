"""Normalizes stored records anew, under their own coordinates, with the mapping that their source has now.

The newest come first (where the first record wins: the oldest), with every delete among them, so that a key which a
record gives up is free for the record that it had overtaken, and what was deleted stays so. What is sent is what the
Postgres sink takes for an outcome within this job, once; so a window that is sent twice changes nothing twice.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.kafka.lookup import RawLookup
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings
from schemas.events import DELETED, HEADER_KIND, HEADER_SOURCE, CleanRecord, FailedRecord
from services.failures.raw_records import Headers
from services.renormalizing import Made, Normalizing, RawRecord, new_producer, remapped, send
from services.reprocessing.covered_records import Found, Place, Window, read_window, windows
from services.reprocessing.forecast import CleanData, forecast
from services.reprocessing.reprocess_state import EXAMPLES, Choice, Counts, Reading, State
from stores.arrivals import Place as RowPlace
from stores.checkpoints import CheckpointStore, Position
from stores.coverage import read_books
from stores.epochs import real_topic
from stores.failure_states import TAKEN_SINCE
from stores.tables import ingest_failures

log = structlog.get_logger()

PUSHED = "push"
REMEDY = "the same command goes on where this one ended"

TAKEN = ("open", "parked")
"""States of failures whose records are read anew; the others wait for somebody, or somebody has decided."""

_decode_clean = msgspec.json.Decoder(CleanRecord).decode
_decode_failed = msgspec.json.Decoder(FailedRecord).decode
_encode = msgspec.json.Encoder().encode


Clean = Sequence[tuple[Place, CleanRecord]]
"""Records as they read now, with the partition that they are booked in."""

Progress = Callable[[Counts, int], None]
"""Called after every window, with how many offsets there are to look at."""


class Reprocess:
    """One run over the chosen records. `readings`: the declared sources of the dataset, by name."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        normalize: Normalizing,
        choice: Choice,
        readings: Mapping[str, Reading],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._normalize = normalize
        self._choice = choice
        self._dataset = choice.dataset
        self._readings = readings
        self._mappings = {name: reading.mapping for name, reading in readings.items()}
        self._newest_first = not choice.dataset.first_wins

    async def plan(self, progress: Progress) -> Counts:
        """What `run` would do. Sends and changes nothing."""

        async def foretell(
            connection: AsyncConnection, counts: Counts, clean: Sequence[tuple[Place, CleanRecord]]
        ) -> None:
            records = [
                CleanData(record.key, msgspec.json.decode(record.data), _row_place(place, record))
                for place, record in clean
                if bytes(record.data) != DELETED
            ]
            if records:
                for what, number in (await forecast(connection, self._dataset, records)).items():
                    counts.forecast[what] = counts.forecast.get(what, 0) + number

        return (await self._walk(await self._begun(), progress, foretell, None)).counts

    async def run(self, scope: str, *, anew: bool, progress: Progress) -> State:
        """Send what is to be read anew, until the broker has confirmed it; goes on where an earlier run ended.

        `end` is to be called when Postgres has it all. Raises DeliveryFailed, CheckpointFailed.
        """
        producer = new_producer(self._settings)
        store = self._store(scope)
        try:
            position = await store.begin(anew=anew)
            state = msgspec.convert(position.at, State) if position and position.at else await self._begun()

            async def deliver(_: AsyncConnection, __: Counts, clean: Clean) -> None:
                made = [self._made(record, state.job) for _, record in clean]
                await asyncio.to_thread(send, self._settings, producer, made, REMEDY)

            async def save(state: State) -> None:
                await store.save(Position(msgspec.to_builtins(state)))

            await save(state)
            await self._walk(state, progress, deliver, save)
        finally:
            await store.close()
        log.info("reprocessed", job=state.job, dataset=self._dataset.name, sent=state.counts.sent)
        return state

    async def end(self, scope: str) -> None:
        """Forget the place: the next run begins anew."""
        store = self._store(scope)
        try:
            await store.begin(anew=True)
        finally:
            await store.close()

    def _store(self, scope: str) -> CheckpointStore:
        depends = _encode((scope, self._choice.source, sorted((n, r.mapping) for n, r in self._readings.items())))
        digest = hashlib.blake2b(depends, digest_size=16).hexdigest()
        return CheckpointStore(self._settings, f"reprocess {self._dataset.name}", digest, uuid.uuid4().hex)

    async def _begun(self) -> State:
        books = await self._booked()
        until = {_name(place): ranges.end() for place, ranges in books.items()}
        since = self._choice.since
        return State(uuid.uuid4().hex, until, since_ms=round(since.timestamp() * 1000) if since else 0)

    async def _booked(self) -> dict[Place, OffsetRanges]:
        raw = self._settings.named(self._dataset.raw_topic)
        async with self._engine.connect() as connection:
            books = await read_books(connection)
        return {place: one.accounted for place, one in books.items() if real_topic(place[0]) == raw}

    async def _walk(
        self,
        state: State,
        progress: Progress,
        take: Callable[[AsyncConnection, Counts, Clean], Awaitable[None]],
        save: Callable[[State], Awaitable[None]] | None,
    ) -> State:
        booked = {p: r.within(0, state.until.get(_name(p), 0)) for p, r in (await self._booked()).items()}
        total = sum(map(len, booked.values()))
        lookup, over = RawLookup(self._settings), set[Place]()
        try:
            for window in windows(booked, newest_first=self._newest_first):
                name = _name(window.place)
                if window.place in over or self._is_done(window, state.done.get(name)):
                    continue
                async with self._engine.connect() as connection:
                    found, latest = 0, 0
                    failures = await self._failures(connection, window)
                    async for records in read_window(connection, lookup, window, newest_first=self._newest_first):
                        found += len(records)
                        latest = max([latest, *(one.record.timestamp for one in records)])
                        await take(connection, state.counts, self._read(records, failures, state))
                state.counts.offsets += len(window.offsets)
                state.counts.nowhere += len(window.offsets) - found
                state.done[name] = window.number
                if found and latest < state.since_ms and self._newest_first:
                    over.add(window.place)  # what is older came earlier
                if save is not None:
                    await save(state)
                progress(state.counts, total)
        finally:
            await asyncio.to_thread(lookup.close)
        return state

    def _is_done(self, window: Window, last: int | None) -> bool:
        return last is not None and (window.number >= last if self._newest_first else window.number <= last)

    async def _failures(self, connection: AsyncConnection, window: Window) -> dict[int, bool]:
        """The offsets of failures, and whether they are not to be read anew."""
        f = ingest_failures.c
        within = f.offset.between(next(iter(window.offsets))[0], window.offsets.end())
        acted_on = f.state.not_in(TAKEN) | f.edited_payload.is_not(None)
        query = select(f.offset, acted_on).where(f.topic == window.place[0], f.partition == window.place[1], within)
        query = query.where(f.stage != "elasticsearch", f.state.not_in(TAKEN_SINCE))
        return {offset: acted for offset, acted in await connection.execute(query)}  # noqa: C416 (no pairs to mypy)

    def _read(self, found: Sequence[Found], failures: Mapping[int, bool], state: State) -> Clean:
        """What is clean of the chosen ones; counts them all."""
        counts, now_ms = state.counts, time.time_ns() // 1_000_000
        clean: list[tuple[Place, CleanRecord]] = []
        for place, record, landed in found:
            source = (dict(record.headers).get(HEADER_SOURCE) or b"").decode("utf-8", "replace") or PUSHED
            deletes = record.value is None
            if record.timestamp < state.since_ms or not (deletes or self._choice.source in (None, source)):
                continue
            counts.landing += landed
            counts.topic += not landed
            if failures.get(record.offset):
                counts.acted_on += 1
                continue
            valid, _, value = self._normalize(self._dataset, self._as_now(record, source, landed=landed), now_ms)
            if not valid:
                if record.offset in failures:
                    counts.still_failed += 1
                else:
                    _note_invalid(counts, _decode_failed(value))
                continue
            made = _decode_clean(value)
            if landed and made.unknown and source not in self._readings:
                counts.no_mapping += 1
                continue
            counts.sent += 1
            counts.deletes += deletes
            clean.append((place, made))
        return clean

    def _as_now(self, record: RawRecord, source: str, *, landed: bool) -> RawRecord:
        headers: Headers = remapped(record.headers, source, self._mappings)
        if landed and (reading := self._readings.get(source)):
            headers = (
                *(header for header in headers if header[0] != HEADER_KIND),
                (HEADER_KIND, reading.kind.encode()),
            )
        elif landed and source == PUSHED:
            headers = (*headers, (HEADER_KIND, PUSHED.encode()))
        return replace(record, headers=headers)

    def _made(self, record: CleanRecord, job: str) -> Made:
        topic = self._settings.named(self._dataset.clean_topic)
        value = _encode(msgspec.structs.replace(record, reprocess=job))
        return Made(topic, record.origin.partition, record.key.encode(), value)


def _note_invalid(counts: Counts, failed: FailedRecord) -> None:
    counts.invalid[failed.reason] = counts.invalid.get(failed.reason, 0) + 1
    if len(counts.examples) < EXAMPLES:
        origin = failed.origin
        about = {"key": failed.key, "reason": failed.reason, "message": failed.message}
        place = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
        counts.examples.append(about | place)


def _name(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


def _row_place(place: Place, record: CleanRecord) -> RowPlace:
    return RowPlace(place[1], record.origin.offset, record.origin.timestamp)
