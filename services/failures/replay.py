"""Sends failures again: each to the raw topic that it came from, done only when the broker has confirmed it."""

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.errors import DeliveryFailed
from runtime.kafka.clients import delivery_error, producer_config, reason
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from runtime.uninterrupted import uninterrupted
from services.failures import replay_jobs as replays
from services.failures.candidates import Candidate, RecordCheck, examine
from services.failures.replay_jobs import Delivered, Job
from stores.failure_states import ActionRefused, JobState

log = structlog.get_logger()

LARGEST_STEP = 500
STEPS_PER_SECOND = 2
"""How often a capped job sends, and looks whether it has been paused. Looking records up costs most per step."""

DELIVERY_TIMEOUT_MS = 30_000

RECORDS_OWN_FAULT = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG)
"""Errors that another try would meet again: the record is left out, and the job goes on."""

ANY_PARTITION = -1
"""librdkafka's word for: the partitioner decides."""


class Replay:
    """Runs one job until it is through, paused or cancelled. `engine` must not be in autocommit mode."""

    def __init__(self, settings: Settings, engine: AsyncEngine, check: RecordCheck, job_id: int, who: str) -> None:
        self._settings = settings
        self._engine = engine
        self._check = check
        self._job_id = job_id
        self._who = who
        self._holder = uuid.uuid4().hex

    async def run(self, progress: Callable[[Job], None] | None = None) -> Job:
        """The job as it stands when this run ends. `progress` is called after every step.

        Cancelling the task pauses the job, after the step that it is in. So does a broker that does not confirm:
        raises DeliveryFailed then; what it has not confirmed stays queued. Any other error ends the job as failed.
        Raises ActionRefused when another process runs the job, or it has ended. Holds no connection while it waits.
        """
        async with self._attending():
            job = await self._change("running")
            lookup = RawLookup(self._settings)
            producer = Producer(
                producer_config(self._settings, log_level=0, **{"delivery.timeout.ms": DELIVERY_TIMEOUT_MS})
            )
            started, sent_before = time.monotonic(), job.sent
            rate = job.rate and min(max(job.rate, replays.LOWEST_RATE), replays.HIGHEST_RATE)
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
            finally:
                await asyncio.to_thread(lookup.close)
            if progress:
                progress(job)
            log.info("replay_ended", job=job.id, state=job.state, sent=job.sent, skipped=job.skipped)
            return job

    async def _step(self, lookup: RawLookup, producer: Producer, size: int) -> Job:
        async with self._engine.begin() as connection:
            job = await replays.job(connection, self._job_id)
            if job.state != "running":
                return job
            failures = await replays.next_failures(connection, self._job_id, size)
            candidates = await examine(connection, lookup, self._check, failures)
        if not failures:
            return await self._change("done")
        skipped = {c.failure["id"]: why for c in candidates if (why := c.refusal(force=job.forced))}
        wanted = [candidate for candidate in candidates if candidate.failure["id"] not in skipped]
        delivered, refused, error = await asyncio.to_thread(_send, producer, wanted)
        skipped |= refused
        async with self._engine.begin() as connection:
            await replays.record_delivered(connection, self._job_id, self._who, delivered)
            limit = self._settings.replay_limit
            await replays.record_skipped(connection, self._job_id, self._who, skipped, replay_limit=limit)
            job = await replays.job(connection, self._job_id)
        if error is not None:
            raise DeliveryFailed(
                f"replay job {job.id} is paused: Kafka at {self._settings.kafka_bootstrap_servers} confirmed "
                f"{len(delivered)} of {len(wanted)} records ({error}); "
                f"`headrace failures retry --resume {job.id}` goes on"
            )
        return job

    @asynccontextmanager
    async def _attending(self) -> AsyncIterator[None]:
        if not await self._attend():
            raise ActionRefused(f"replay job {self._job_id} is being run by another process")
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(SQLAlchemyError, OSError):  # the lease ends by itself
                await uninterrupted(self._leave())

    async def _attend(self) -> bool:
        async with self._engine.begin() as connection:
            return await replays.attend(connection, self._job_id, self._holder)

    async def _keep(self) -> None:
        """Renew the lease, whatever a step waits for. Where Postgres is away the step finds that out."""
        while True:
            await asyncio.sleep(replays.LEASE_SECONDS / 4)
            with suppress(SQLAlchemyError, OSError):
                await self._attend()

    async def _leave(self) -> None:
        async with self._engine.begin() as connection:
            await replays.leave(connection, self._job_id, self._holder)

    async def _change(self, state: JobState) -> Job:
        async with self._engine.begin() as connection:
            return await replays.change_state(
                connection, self._job_id, state, self._who, replay_limit=self._settings.replay_limit
            )

    async def _end(self, state: JobState) -> None:
        async with self._engine.begin() as connection:
            job = await replays.job(connection, self._job_id)
        if job.state == "running":
            await self._change(state)


Sent = tuple[list[Delivered], dict[int, str], str | None]


def _send(producer: Producer, candidates: Sequence[Candidate]) -> Sent:
    """What the broker has confirmed, what it will never take and why, by failure, and the first other error.

    Blocking, until each record has its delivery report.
    """
    delivered: list[Delivered] = []
    refused: dict[int, str] = {}
    errors: list[str] = []

    def failed(error: KafkaError, candidate: Candidate) -> None:
        if error.code() in RECORDS_OWN_FAULT:
            refused[candidate.failure["id"]] = f"Kafka does not take it: {reason(error)}"
        else:
            errors.append(reason(error))

    for candidate in candidates:

        def report(error: KafkaError | None, message: Message, candidate: Candidate = candidate) -> None:
            if (trouble := delivery_error(error, message)) is not None:
                failed(trouble, candidate)
                return
            place = cast("tuple[str, int, int]", (message.topic(), message.partition(), message.offset()))
            delivered.append(Delivered(candidate.failure["id"], *place, candidate.valid_key))

        try:
            while not _produce(producer, candidate, report):
                producer.poll(0.1)
        except KafkaException as error:
            failed(error.args[0], candidate)
        if errors:
            break
    producer.flush()
    return delivered, refused, errors[0] if errors else None


def _produce(producer: Producer, candidate: Candidate, report: Any) -> bool:
    try:
        producer.produce(
            candidate.failure["topic"],
            value=candidate.value,
            key=candidate.key,
            headers=list(candidate.headers),
            on_delivery=report,
            partition=ANY_PARTITION if candidate.partition is None else candidate.partition,
        )
    except BufferError:
        return False
    return True
