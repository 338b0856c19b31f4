"""One ETL run, from its source's lock to its record in `etl_runs`; and the parts of it that others use."""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException
from sqlalchemy.ext.asyncio import AsyncEngine

from producers.delivery import Progress
from producers.publish import PublishReport, publish
from producers.source import Source
from rehearsals.source import rehearsed_source
from runtime.errors import Explained
from runtime.kafka.clients import reason
from runtime.patience import Patience
from runtime.settings import Settings
from runtime.uninterrupted import uninterrupted
from services.runs.anomalies import examine_run
from services.runs.history import close_run, note_published, open_run, running_run
from services.runs.lock import SourceLock
from stores.checkpoints import Checkpoint
from stores.coverage import Outcome, wait_until_covered
from stores.epochs import note_epochs
from stores.outages import Unavailable, postgres_trouble
from stores.postgres_engine import postgres_engine

log = structlog.get_logger()

T = TypeVar("T")

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
RETRY_SECONDS = 0.5

OPENING_SECONDS = 2.0
"""Between taking the lock and recording the run; another run that finds the lock taken waits so long for its id."""

RECORD_FAILURE_SECONDS = 5.0
"""A run that failed tries for so long to record it; after that, whoever looks next records `interrupted`."""

WARN_AGAIN_SECONDS = 30.0
"""Between two lines in the log about a store that is away."""


class RunUnderWay(Explained):
    """Another run of the source has not ended. `run_id` names it, None if it has only just begun."""

    def __init__(self, source: str, run_id: str | None) -> None:
        which = f"run {run_id}" if run_id else "another run"
        super().__init__(f"{source}: {which} of this source is under way; try again when it has ended")
        self.run_id = run_id


class NotTaken(Explained):
    """Records are published, and Postgres has taken none of them for the time that was given, or never will."""


@dataclass
class Run:
    """A run of a source as it stands. Written by the run; whoever asked for it may read it at any time."""

    source: Source
    on_change: Callable[[], None] = lambda: None
    """Called when it has begun, and often while it publishes and waits."""
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    begun: bool = False
    """It holds its source's lock and is recorded."""
    progress: Progress | None = None
    report: PublishReport | None = None
    """None until every record is confirmed."""
    epochs_noted: bool = False
    """Postgres knows the topics that the records went to."""
    pending: int | None = None
    """Published records that Postgres has not taken yet."""
    outcome: Outcome | None = None
    """None until Postgres has every record, or the wait for it is over."""

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.description.name

    @property
    def published(self) -> int | None:
        """Records that the broker has confirmed so far; None before there were any to send."""
        return self.progress.confirmed if self.progress else None

    def note_progress(self, progress: Progress) -> None:
        """To be told while records are published."""
        self.progress = progress
        self.on_change()

    def note_pending(self, pending: int) -> None:
        """To be told while Postgres takes them."""
        self.pending = pending
        self.on_change()


async def run_source(
    run: Run,
    settings: Settings,
    trigger: str,
    *,
    checkpoint: Checkpoint | None = None,
    wait_seconds: float | None = None,
) -> Outcome:
    """Run a source from begin to end. A success has an outcome in Postgres for every confirmed offset.

    `trigger` is who asked for it, `checkpoint` as `publish` takes it. Gives up when Postgres has taken none of the
    run's records for `wait_seconds`; by default never: an outage only makes the wait longer. When cancelled, what is
    queued is flushed and the run is recorded as failed before CancelledError goes on.

    Raises RunUnderWay at once when the source is being run, in this process or another, and Unavailable without
    Postgres: nothing is recorded then. All else is recorded: what `publish` raises; NotTaken when the wait is over or
    Kafka has lost records before Postgres had them, Unavailable if a store was away then; LockTaken.
    """
    started = time.monotonic()
    lock, engine = SourceLock(settings, run.name), _engine(settings)
    try:
        await _begin(run, trigger, lock, engine)
        try:
            async with lock.kept():
                report = await publish_source(run, settings, checkpoint)
                patience = Patience(wait_seconds)
                await outlast(lambda: _record_published(run, engine), patience, run)
                outcome = await outlast(lambda: wait_until_stored(run, settings, engine, patience), patience, run)
                await outlast(lambda: _record_end(run, engine), Patience(None), run)
                await _examine(run, engine, report, outcome)
        except BaseException as error:
            await _record_failure(run, engine, error)
            raise
    finally:
        # Done whole before a cancellation goes on, which would leave connections open.
        await uninterrupted(_release(lock, engine))
    seconds = round(time.monotonic() - started, 2)
    counts = {"published": report.published, "stored": outcome.stored, "failed": outcome.failed}
    log.info("etl_run_succeeded", source=run.name, run=run.run_id, seconds=seconds, **counts)
    return outcome


async def publish_source(run: Run, settings: Settings, checkpoint: Checkpoint | None = None) -> PublishReport:
    """Publish the records of a run and wait until each is confirmed. Raises what `publish` raises."""
    source = rehearsed_source(run.source, settings)
    run.report = await publish(source, settings, run_id=run.run_id, progress=run.note_progress, checkpoint=checkpoint)
    return run.report


async def wait_until_stored(run: Run, settings: Settings, engine: AsyncEngine, patience: Patience) -> Outcome:
    """Wait until Postgres has an outcome for every confirmed offset of a published run.

    Raises NotTaken when the patience is over or Kafka has lost records before Postgres had them; when Kafka or Postgres
    does not answer, what their clients raise.
    """
    assert run.report is not None  # noqa: S101 (it is published)
    # First: the coverage of a topic that was created again would seem to have the new records already. Once: from here
    # on a Kafka that is away ends nothing.
    if not run.epochs_noted:
        await note_epochs(settings)
        run.epochs_noted = True
    outcome = await wait_until_covered(settings, engine, run.report.offsets, patience, run.note_pending, run.run_id)
    run.outcome, run.pending = outcome, outcome.pending
    if outcome.gone:
        raise NotTaken(outcome.why_gone())
    if outcome.pending:
        raise NotTaken(
            f"{outcome.pending:,} of {run.report.published:,} published records have not reached Postgres within "
            f"{patience.seconds:g} s in which none did; `headrace status` shows what is down, `headrace lag` what is "
            "behind"
        )
    return outcome


async def outlast(attempt: Callable[[], Awaitable[T]], patience: Patience, run: Run) -> T:
    """Try until a store that is away is back. Raises Unavailable once the patience is over, other errors at once."""
    warned_at = -math.inf
    while True:
        try:
            return await attempt()
        except Exception as error:
            trouble = outage(error)
            if trouble is None:
                raise
            if not patience.remaining:
                raise trouble from error
            if time.monotonic() > warned_at + WARN_AGAIN_SECONDS:
                log.warning("etl_run_waits", source=run.name, run=run.run_id, reason=str(trouble))
                warned_at = time.monotonic()
        await asyncio.sleep(RETRY_SECONDS)


def outage(error: Exception) -> Unavailable | None:
    """The store that does not answer, if that is what the error means."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, KafkaException):
        return Unavailable("kafka", reason(error))
    trouble = postgres_trouble(error)
    return Unavailable("postgres", trouble) if trouble else None


def failure_reason(error: BaseException, published: int | None) -> str:
    """The words that are recorded of an error. Pure. Errors not meant for users are told by their kind only."""
    if isinstance(error, Explained):
        return str(error)
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return f"stopped before it had ended; {published or 0:,} records were published, and will be stored"
    return f"an error inside ({type(error).__name__}); the log of the process that ran it has the details"


async def _begin(run: Run, trigger: str, lock: SourceLock, engine: AsyncEngine) -> None:
    """Take the lock and record the run. Raises RunUnderWay, Unavailable."""
    try:
        await _take(run, lock, engine)
        async with engine.begin() as connection:
            await open_run(connection, run.run_id, run.name, run.source.description.dataset.name, trigger)
    except Exception as error:
        if trouble := outage(error):
            raise trouble from error
        raise
    log.info("etl_run_started", source=run.name, run=run.run_id, trigger=trigger)
    run.begun = True
    run.on_change()


async def _take(run: Run, lock: SourceLock, engine: AsyncEngine) -> None:
    deadline = time.monotonic() + OPENING_SECONDS
    while not await lock.take():
        async with engine.connect() as connection:
            other = await running_run(connection, run.name)
        if other or time.monotonic() > deadline:
            raise RunUnderWay(run.name, other)
        await asyncio.sleep(OPENING_SECONDS / 20)


async def _record_published(run: Run, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await note_published(connection, run.run_id, run.published or 0)


async def _record_failure(run: Run, engine: AsyncEngine, error: BaseException) -> None:
    why = failure_reason(error, run.published)
    unexpected = not isinstance(error, Explained | asyncio.CancelledError)
    log.warning("etl_run_failed", source=run.name, run=run.run_id, reason=why, exc_info=unexpected)
    patience = Patience(RECORD_FAILURE_SECONDS)
    try:
        async with asyncio.timeout(RECORD_FAILURE_SECONDS):
            await outlast(lambda: _record_end(run, engine, why), patience, run)
    except Exception as trouble:  # noqa: BLE001 (the run's own error must go on)
        log.warning("etl_run_left_running", source=run.name, run=run.run_id, reason=str(trouble))


async def _record_end(run: Run, engine: AsyncEngine, failure: str | None = None) -> None:
    """Record that the run has ended: as a success unless there is a failure."""
    encoding = str(run.progress.encoding) if run.progress and run.progress.encoding else None
    async with engine.begin() as connection:
        await close_run(
            connection,
            run.run_id,
            published=run.published,
            outcome=run.outcome,
            failure_reason=failure,
            encoding=encoding,
        )


async def _examine(run: Run, engine: AsyncEngine, report: PublishReport, outcome: Outcome) -> None:
    try:
        await examine_run(engine, run.run_id, run.name, run.source.description.dataset.name, report.offsets, outcome)
    except Exception as error:  # noqa: BLE001 (the run is a success, whether or not it can be compared)
        log.warning("run_not_examined", source=run.name, run=run.run_id, reason=repr(error))


async def _release(lock: SourceLock, engine: AsyncEngine) -> None:
    await lock.release()
    await engine.dispose()


def _engine(settings: Settings) -> AsyncEngine:
    return postgres_engine(
        settings,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "server_settings": {"application_name": "headrace-etl-run", "timezone": "UTC"},
        },
    )
