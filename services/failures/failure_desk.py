"""What people do with failures beyond looking: edit, plan a replay, start it, go on with it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from producers.sources import SourcesError, load_sources
from producers.value_limit import LARGEST_VALUE_BYTES
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from runtime.uninterrupted import uninterrupted
from schemas.registry import dataset_named
from services.failures import actions
from services.failures import listing as queries
from services.failures import replay_jobs as replays
from services.failures.candidates import RecordCheck, content_of, examine
from services.failures.desk import Edited, Expected, Plan, PlanLine, Released
from services.failures.editing import with_fields
from services.failures.raw_records import find_originals
from services.failures.release import Release
from services.failures.replay import Replay
from services.failures.replay_jobs import Job
from services.failures.selection import Selection
from services.failures.settling import settle
from services.renormalizing import Normalizing, mappings_of
from stores.failure_states import ActionRefused, CannotEdit, State, StillInvalid, refuse_all

PLAN_STEP = 500


class FailureDesk:
    """Opens its connections per call. `check` says what the normalizer would make of a record; `normalize` makes it."""

    def __init__(self, settings: Settings, check: RecordCheck, normalize: Normalizing) -> None:
        self._settings = settings
        self._check = check
        self._normalize = normalize

    async def edit(
        self,
        failure_id: int,
        who: str,
        *,
        values: Mapping[str, object] | None = None,
        payload: bytes | None = None,
        force: bool = False,
    ) -> Edited:
        """Keep another payload for the next retry: the whole of it, or values set in the one that failed.

        Raises StillInvalid (unless forced), CannotEdit, ActionRefused, UnknownFailure, DeliveryFailed.
        """
        async with self._transaction() as connection, _lookup(self._settings) as lookup:
            await settle(connection, self._settings.replay_limit)
            failure = await queries.one(connection, failure_id)
            if failure["state"] != "held" and (reason := actions.not_actionable(failure)):
                raise refuse_all({failure_id: reason})
            originals = await find_originals(connection, lookup, [failure])
            if failure_id not in originals:
                raise ActionRefused(f"failure {failure_id}: the original record is nowhere any more")
            original, dataset = originals[failure_id], dataset_named(failure["dataset"])
            before, headers = content_of(failure, original)
            after = payload if payload is not None else with_fields(before, headers, values or {}, dataset)
            if len(after) > LARGEST_VALUE_BYTES:
                raise CannotEdit(
                    f"the payload would have {len(after):,} bytes, and a record may have {LARGEST_VALUE_BYTES:,}; "
                    "shorten it, or discard the failure"
                )
            _, sent_headers = content_of({**failure, "edited_payload": after}, original)
            verdict = self._check(dataset, original.key, after, sent_headers)
            if verdict.key is None and not force:
                raise StillInvalid(failure_id, verdict.reason or "invalid", verdict.message, verdict.problems)
            # The topic will not keep the headers for ever, and without the mapping the payload is not readable.
            kept = {name: value.decode("utf-8", "replace") for name, value in sent_headers if value is not None}
            text = None if verdict.key is not None else f"forced: {verdict.message}"
            await actions.save_edit(connection, failure_id, who, before=before, after=after, headers=kept, text=text)
        return Edited(before, after, verdict.key is not None)

    async def plan(self, selection: Selection, *, force: bool = False) -> Plan:
        """What `start` with the same arguments would do; sends and changes nothing."""
        counts: Counter[tuple[str, str, Expected | State, bool]] = Counter()
        after = 0
        async with self._transaction() as connection, _lookup(self._settings) as lookup:
            await settle(connection, self._settings.replay_limit)
            while failures := await queries.following(connection, selection, PLAN_STEP, after):
                after = failures[-1]["id"]
                idle = {row["id"]: row["state"] for row in failures if not _takes(row["state"], force)}
                counts.update(
                    (row["dataset"], row["reason"], row["state"], False) for row in failures if row["id"] in idle
                )
                wanted = [row for row in failures if row["id"] not in idle]
                for candidate in await examine(connection, lookup, self._check, wanted):
                    failure, sent = candidate.failure, candidate.refusal(force=force) is None
                    counts[failure["dataset"], failure["reason"], candidate.expected(force=force), sent] += 1
        return Plan([PlanLine(*line, number) for line, number in sorted(counts.items())])

    async def start(self, selection: Selection, who: str, *, rate: float | None = None, force: bool = False) -> Job:
        """Queue the selected failures as a job; `run` sends them.

        Of failures named by id none may be refused. Of a filter, those that may not be sent are left out.
        Raises ActionRefused, UnknownFailure, DeliveryFailed.
        """
        async with self._transaction() as connection:
            await settle(connection, self._settings.replay_limit)
            if selection.ids:
                await self._require_sendable(connection, selection.ids, force)
            job = await replays.create(connection, selection, who, rate=rate, forced=force)
            if job.total == 0:
                raise ActionRefused("no failure that may be retried is selected; `--dry-run` shows what is")
            return job

    async def release(self, selection: Selection, who: str, *, remap: bool = False) -> Released:
        """Have held records normalized anew: see Release. `remap`: read with the mappings that sources.toml has now."""
        mappings = await asyncio.to_thread(_mappings, self._settings) if remap else {}
        engine = _engine(self._settings)
        try:
            return await Release(self._settings, engine, self._normalize, mappings).run(selection, who)
        finally:
            await uninterrupted(engine.dispose())

    async def run(self, job_id: int, who: str, progress: Callable[[Job], None] | None = None) -> Job:
        """Send what the job has queued: see Replay.run."""
        engine = _engine(self._settings)
        try:
            return await Replay(self._settings, engine, self._check, job_id, who).run(progress)
        finally:
            await uninterrupted(engine.dispose())

    async def _require_sendable(self, connection: AsyncConnection, ids: Sequence[int], force: bool) -> None:
        rows = await actions.lock(connection, ids)
        refusals = {row["id"]: reason for row in rows if (reason := actions.not_actionable(row))}
        parked = f"it failed again {self._settings.replay_limit} times or more and is parked; --force sends it anyway"
        for row in rows:
            if row["state"] == "parked" and not force:
                refusals[row["id"]] = parked
        async with _lookup(self._settings) as lookup:
            for candidate in await examine(connection, lookup, self._check, rows):
                if why := candidate.refusal(force=force):
                    overwriting = ", and it will overwrite that" if candidate.overtaken else ""
                    hint = f"; --force sends it anyway{overwriting}" if candidate.overridable else ""
                    refusals.setdefault(candidate.failure["id"], why + hint)
        if refusals:
            raise refuse_all(refusals)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        engine = _engine(self._settings)
        try:
            async with engine.begin() as connection:
                yield connection
        finally:
            await engine.dispose()


def _takes(state: str, force: bool) -> bool:
    return state == "open" or (force and state == "parked")


def _mappings(settings: Settings) -> dict[str, bytes | None]:
    try:
        sources = load_sources(settings.sources_file, settings)
    except SourcesError as error:
        raise ActionRefused(str(error)) from error
    return mappings_of(sources)


def _engine(settings: Settings) -> AsyncEngine:
    return create_async_engine(settings.async_database_url, poolclass=NullPool)


@asynccontextmanager
async def _lookup(settings: Settings) -> AsyncIterator[RawLookup]:
    lookup = RawLookup(settings)
    try:
        yield lookup
    finally:
        await asyncio.to_thread(lookup.close)
