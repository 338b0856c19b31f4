"""One ETL run, in the one place where runs are done: lock, record, publish, wait for Postgres, record how it ended."""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from runtime.errors import Explained
from runtime.kafka.clients import reason
from runtime.patience import Patience
from runtime.settings import Settings
from runtime.uninterrupted import uninterrupted
from services.anomalies.runs import examine_run
from services.runs.lock import SourceLock
from services.runs.runs import close_run, note_published, open_run, running_run
from stores.coverage import Outcome, Wanted, wait_until_covered
from stores.epochs import note_epochs
from stores.outages import Unavailable, postgres_trouble

log = structlog.get_logger()

T = TypeVar("T")

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
RETRY_SECONDS = 0.5

OPENING_SECONDS = 2.0
"""Between taking the lock and recording its run; who finds the lock taken waits so long to learn the run's id."""

RECORD_FAILURE_SECONDS = 5.0
"""How long a run that failed tries to say so; the next one who looks would say `interrupted`."""

TELL_AGAIN_SECONDS = 30.0
"""Between two lines in the log about a store that is away."""


class RunUnderWay(Explained):
    """Another run of the source has not ended. `run_id` names it, None if it has only just begun."""

    def __init__(self, source: str, run_id: str | None) -> None:
        which = f"run {run_id}" if run_id else "another run"
        super().__init__(f"{source}: {which} of this source is under way; try again when it has ended")
        self.source = source
        self.run_id = run_id


class NotTaken(Explained):
    """Records are published, and Postgres has taken none of them for the time that was given, or never will."""


@dataclass(frozen=True)
class Published:
    """Every record of a run, confirmed by the broker: how many, and where per (physical raw topic, partition)."""

    records: int
    offsets: Wanted


@dataclass
class EtlRun:
    """A run that holds its source's lock and is recorded as `running`; `complete` must follow."""

    settings: Settings
    source: str
    dataset: str
    run_id: str
    lock: SourceLock
    engine: AsyncEngine
    published: int | None = None
    """Records that the broker has confirmed so far; whoever publishes may keep it up to date."""
    encoding: str | None = None
    """Of the text that it is read from, likewise."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """What had become of its records when Postgres was last asked."""

    async def complete(
        self,
        publish: Callable[[], Awaitable[Published]],
        *,
        wait_seconds: float | None = None,
        pending: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Publish, wait until Postgres has every record, and record the success; whatever else happens, the failure.

        Waits until Postgres has taken none of the run's records for `wait_seconds`, by default as long as it takes: an
        outage only makes it longer. `pending` is called with the number of records that Postgres has not taken yet. To
        be called once. When cancelled, the run is recorded as failed before CancelledError goes on.

        Raises what `publish` raises; NotTaken when the wait is over or Kafka has lost records before Postgres had them,
        Unavailable if a store was away then; LockTaken.
        """
        started = time.monotonic()
        try:
            outcome = await self._guarded(self._publish_and_wait(publish, wait_seconds, pending))
        except BaseException as error:
            await self._record_failure(error)
            raise
        finally:
            await self.release()
        seconds = round(time.monotonic() - started, 2)
        counts = {"published": self.published, "stored": outcome.stored, "failed": outcome.failed}
        log.info("etl_run_succeeded", source=self.source, run=self.run_id, seconds=seconds, **counts)
        return outcome

    async def release(self) -> None:
        """Give lock and connections back. Done whole before a cancellation goes on, which would leave them open."""
        await uninterrupted(self._release())

    async def _release(self) -> None:
        await self.lock.release()
        await self.engine.dispose()

    async def _guarded(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Do the work while the lock is held."""
        doing, holding = asyncio.create_task(work), asyncio.create_task(self.lock.guard())
        try:
            await asyncio.wait({doing, holding}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                holding.result()
            return await doing
        finally:
            doing.cancel()
            holding.cancel()
            await asyncio.gather(doing, holding, return_exceptions=True)

    async def _publish_and_wait(
        self,
        publish: Callable[[], Awaitable[Published]],
        wait_seconds: float | None,
        pending: Callable[[int], None] | None,
    ) -> Outcome:
        published = await publish()
        self.published = published.records
        patience = Patience(wait_seconds)
        await self._insist(self._note_published, patience)
        await self._insist(self._note_epochs, patience)
        outcome = await self._insist(lambda: self._look(published.offsets, patience, pending), patience)
        self.outcomes = outcome.counts()
        if outcome.gone:
            raise NotTaken(outcome.why_gone())
        if outcome.pending:
            raise NotTaken(not_taken(outcome, published.records, patience))
        await self._insist(lambda: self._close(stored=outcome.stored, failed=outcome.failed), Patience(None))
        await self._look_for_anomalies(published.offsets, outcome)
        return outcome

    async def _look_for_anomalies(self, wanted: Wanted, outcome: Outcome) -> None:
        try:
            await examine_run(self.engine, self.run_id, self.source, self.dataset, wanted, outcome)
        except Exception as error:  # noqa: BLE001 (the run is a success, whether or not it can be compared)
            log.warning("run_not_examined", source=self.source, run=self.run_id, reason=repr(error))

    async def _look(self, wanted: Wanted, patience: Patience, pending: Callable[[int], None] | None) -> Outcome:
        return await wait_until_covered(self.settings, self.engine, wanted, patience, pending, self.run_id)

    async def _note_published(self) -> None:
        async with self.engine.begin() as connection:
            await note_published(connection, self.run_id, self.published or 0)

    async def _note_epochs(self) -> None:
        # Before the books are asked: those of a topic that was made anew would have new records covered already.
        await note_epochs(self.settings)

    async def _close(self, **values: Any) -> None:
        async with self.engine.begin() as connection:
            values |= {"encoding": self.encoding, "outcomes": self.outcomes or None}
            await close_run(connection, self.run_id, published=self.published, **values)

    async def _insist(self, attempt: Callable[[], Awaitable[T]], patience: Patience) -> T:
        """Try until a store that is away is back. Raises Unavailable once the patience is over, others at once."""
        told = -math.inf
        while True:
            try:
                return await attempt()
            except Exception as error:
                trouble = _outage(error)
                if trouble is None:
                    raise
                if not patience.remaining:
                    raise trouble from error
                if time.monotonic() > told + TELL_AGAIN_SECONDS:
                    log.warning("etl_run_waits", source=self.source, run=self.run_id, reason=str(trouble))
                    told = time.monotonic()
            await asyncio.sleep(RETRY_SECONDS)

    async def _record_failure(self, error: BaseException) -> None:
        why = failure_reason(error, self.published)
        unexpected = not isinstance(error, Explained | asyncio.CancelledError)
        log.warning("etl_run_failed", source=self.source, run=self.run_id, reason=why, exc_info=unexpected)
        patience = Patience(RECORD_FAILURE_SECONDS)
        try:
            async with asyncio.timeout(RECORD_FAILURE_SECONDS):
                await self._insist(lambda: self._close(failure_reason=why), patience)
        except Exception as trouble:  # noqa: BLE001 (the run's own error must go on)
            log.warning("etl_run_left_running", source=self.source, run=self.run_id, reason=str(trouble))


async def begin_run(settings: Settings, source: str, dataset: str, trigger: str, run_id: str | None = None) -> EtlRun:
    """Take the source's lock and record that a run begins. `run_id` is a new UUID if not given.

    `trigger` is who asked for it. Raises RunUnderWay at once when the source is being run, in this process or another;
    Unavailable without Postgres.
    """
    run = EtlRun(
        settings, source, dataset, run_id or str(uuid.uuid4()), SourceLock(settings, source), _engine(settings)
    )
    try:
        await _take(run)
        async with run.engine.begin() as connection:
            await open_run(connection, run.run_id, source, dataset, trigger)
    except BaseException as error:
        await run.release()
        if isinstance(error, Exception) and (trouble := _outage(error)):
            raise trouble from error
        raise
    log.info("etl_run_started", source=source, run=run.run_id, trigger=trigger)
    return run


def not_taken(outcome: Outcome, published: int, patience: Patience) -> str:
    """What to tell of a wait that is over. Pure."""
    return (
        f"{outcome.pending:,} of {published:,} published records have not reached Postgres within "
        f"{patience.seconds:g} s in which none did; `headrace status` shows what is down, `headrace lag` what is behind"
    )


def failure_reason(error: BaseException, published: int | None) -> str:
    """What is recorded of an error. Pure. Other errors than those meant for users are told by their kind only."""
    if isinstance(error, Explained):
        return str(error)
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return f"stopped before it had ended; {published or 0:,} records were published, and will be stored"
    return f"an error inside ({type(error).__name__}); the log of the process that ran it has the details"


async def _take(run: EtlRun) -> None:
    deadline = time.monotonic() + OPENING_SECONDS
    while not await run.lock.take():
        async with run.engine.connect() as connection:
            other = await running_run(connection, run.source)
        if other or time.monotonic() > deadline:
            raise RunUnderWay(run.source, other)
        await asyncio.sleep(OPENING_SECONDS / 20)


def _engine(settings: Settings) -> AsyncEngine:
    return create_async_engine(
        settings.async_database_url,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "server_settings": {"application_name": "headrace-etl-run", "timezone": "UTC"},
        },
    )


def _outage(error: Exception) -> Unavailable | None:
    """The store that is away, if that is what the error means."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, KafkaException):
        return Unavailable("kafka", reason(error))
    trouble = postgres_trouble(error)
    return Unavailable("postgres", trouble) if trouble else None
