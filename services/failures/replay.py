"""Sends failures again: each to the raw topic that it came from, done only when the broker has confirmed it."""

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import send
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from runtime.uninterrupted import uninterrupted
from services.failures import replay_jobs
from services.failures.actions import lock, not_actionable
from services.failures.candidates import examine
from services.failures.replay_jobs import Delivered, ReplayJob
from services.failures.selection import Selection
from services.failures.settling import settled
from services.renormalizing import new_producer
from stores.epochs import note_epochs
from stores.failure_states import ActionRefused, JobState, refuse_all
from stores.outages import POSTGRES_ERRORS
from stores.postgres_engine import postgres_engine

log = structlog.get_logger()

T = TypeVar("T")
P = ParamSpec("P")

LARGEST_STEP = 500
STEPS_PER_SECOND = 2
"""Steps of a capped job; after each it sees a pause. Most of a step's time goes into reading records back."""

RECORDS_OWN_FAULT = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG)
"""Errors that another try would meet again: the record is left out, and the job goes on."""


async def start(
    settings: Settings, selection: Selection, who: str, *, rate: float | None = None, force: bool = False
) -> ReplayJob:
    """Queue the selected failures as a job; `run` sends them. `rate` in records/s, None for no cap.

    All failures that are named by id must be sendable; a filter leaves out those that are not.
    Raises ActionRefused, UnknownFailure, DeliveryFailed.
    """
    async with settled(settings) as connection:
        if selection.ids:
            await _require_sendable(connection, settings, selection.ids, force)
        job = await replay_jobs.create(connection, selection, who, rate=rate, forced=force)
        if job.total == 0:
            raise ActionRefused("no failure that may be retried is selected; `--dry-run` shows what is")
        return job


async def run(
    settings: Settings, job_id: int, who: str, progress: Callable[[ReplayJob], None] | None = None
) -> ReplayJob:
    """Send what the job has queued, until it is through, paused or cancelled; returns it as it stands then.

    `progress` is called after every step. Cancelling the task pauses the job, after the step that it is in. So does a
    broker that does not confirm: raises DeliveryFailed then; what it has not confirmed stays queued. Any other error
    ends the job as failed. Raises ActionRefused when another process runs the job, or it has ended. Holds no connection
    to Postgres while it waits.
    """
    engine = postgres_engine(settings, poolclass=NullPool)
    try:
        return await _Replay(settings, engine, job_id, who).run(progress)
    finally:
        await uninterrupted(engine.dispose())


async def _require_sendable(connection: AsyncConnection, settings: Settings, ids: Sequence[int], force: bool) -> None:
    failures = await lock(connection, ids)
    refusals = {failure["id"]: why for failure in failures if (why := not_actionable(failure))}
    for failure in failures:
        if failure["state"] == "parked" and not force:
            times = f"it failed again {settings.replay_limit} times or more and is parked"
            refusals[failure["id"]] = f"{times}; --force sends it anyway"
    async with RawLookup(settings) as lookup:
        for candidate in await examine(connection, lookup, failures):
            if why := candidate.refusal(force=force):
                overwriting = ", and it will overwrite that" if candidate.overtaken else ""
                hint = f"; --force sends it anyway{overwriting}" if candidate.message is not None else ""
                refusals.setdefault(candidate.failure["id"], why + hint)
    if refusals:
        raise refuse_all(refusals)


class _Replay:
    """One process's run of a job, under a lease."""

    def __init__(self, settings: Settings, engine: AsyncEngine, job_id: int, who: str) -> None:
        self._settings = settings
        self._engine = engine
        self._job_id = job_id
        self._who = who
        self._holder = uuid.uuid4().hex
        self._noted: set[str] = set()

    async def run(self, progress: Callable[[ReplayJob], None] | None) -> ReplayJob:
        async with self._lease(), RawLookup(self._settings) as lookup:
            job = await self._change("running")
            producer = await new_producer(self._settings)
            started, sent_before = time.monotonic(), job.sent
            rate = job.rate and min(max(job.rate, replay_jobs.LOWEST_RATE), replay_jobs.HIGHEST_RATE)
            size = LARGEST_STEP if rate is None else min(LARGEST_STEP, math.ceil(rate / STEPS_PER_SECOND))
            try:
                while (job := await uninterrupted(self._step(lookup, producer, size))).state == "running":
                    if progress:
                        progress(job)
                    if rate is not None:
                        await asyncio.sleep(started + (job.sent - sent_before) / rate - time.monotonic())
            except (asyncio.CancelledError, DeliveryFailed):
                await self._end("paused")
                raise
            except Exception:
                await self._end("failed")
                raise
            if progress:
                progress(job)
            log.info("replay_ended", job=job.id, state=job.state, sent=job.sent, skipped=job.skipped)
            return job

    async def _step(self, lookup: RawLookup, producer: Producer, size: int) -> ReplayJob:
        async with self._engine.begin() as connection:
            job = await replay_jobs.job(connection, self._job_id)
            if job.state != "running":
                return job
            failures = await replay_jobs.next_failures(connection, self._job_id, size)
            candidates = await examine(connection, lookup, failures)
        if not failures:
            return await self._change("done")
        skipped = {one.failure["id"]: why for one in candidates if (why := one.refusal(force=job.forced))}
        wanted = [(one, one.message) for one in candidates if one.message and one.failure["id"] not in skipped]
        answers = await asyncio.to_thread(send, producer, [message for _, message in wanted])
        delivered, errors = [], []
        for (candidate, _), answer in zip(wanted, answers, strict=True):
            failure_id = candidate.failure["id"]
            if not isinstance(answer, KafkaError):
                delivered.append(Delivered(failure_id, *answer, candidate.valid_key))
            elif answer.code() in RECORDS_OWN_FAULT:
                skipped[failure_id] = f"Kafka does not take it: {reason(answer)}"
            else:
                errors.append(reason(answer))
        if fresh := {one.topic for one in delivered} - self._noted:
            # Else the coverage of a topic that was created again would seem to have the records already. The epoch of
            # an empty one begins with its first record, so each topic is noted once it has one.
            with suppress(KafkaException, *POSTGRES_ERRORS):  # what is confirmed is to be noted anyway
                await note_epochs(self._settings)
                self._noted |= fresh
        async with self._engine.begin() as connection:
            await replay_jobs.record_delivered(connection, self._job_id, self._who, delivered)
            limit = self._settings.replay_limit
            await replay_jobs.record_skipped(connection, self._job_id, self._who, skipped, replay_limit=limit)
            job = await replay_jobs.job(connection, self._job_id)
        if errors:
            raise DeliveryFailed(
                f"replay job {job.id} is paused: Kafka at {self._settings.kafka_bootstrap_servers} confirmed "
                f"{len(delivered)} of {len(wanted)} records ({errors[0]}); "
                f"`headrace failures retry --resume {job.id}` goes on"
            )
        return job

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[None]:
        if not await self._ask(replay_jobs.take_lease, self._holder):
            raise ActionRefused(f"replay job {self._job_id} is being run by another process")
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(SQLAlchemyError, OSError):  # the lease ends by itself
                await uninterrupted(self._ask(replay_jobs.return_lease, self._holder))

    async def _renew(self) -> None:
        """Renew the lease, whatever a step waits for. Where Postgres is away the step finds that out."""
        while True:
            await asyncio.sleep(replay_jobs.LEASE_SECONDS / 4)
            with suppress(SQLAlchemyError, OSError):
                await self._ask(replay_jobs.take_lease, self._holder)

    async def _change(self, state: JobState) -> ReplayJob:
        return await self._ask(replay_jobs.change_state, state, self._who, replay_limit=self._settings.replay_limit)

    async def _end(self, state: JobState) -> None:
        if (await self._ask(replay_jobs.job)).state == "running":
            await self._change(state)

    async def _ask(
        self, question: Callable[Concatenate[AsyncConnection, int, P], Awaitable[T]], *given: P.args, **named: P.kwargs
    ) -> T:
        """Ask or change something about the job, in a transaction."""
        async with self._engine.begin() as connection:
            return await question(connection, self._job_id, *given, **named)
