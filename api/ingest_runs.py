"""Ingestion runs of this process: one at a time, the last ones remembered for who asks how they ended."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Literal

import structlog
from confluent_kafka import KafkaException
from sqlalchemy.ext.asyncio import AsyncEngine

from api.database import reading
from api.stages import IngestRunner
from api.unavailable import Unavailable, postgres_trouble
from runtime.coverage import Outcome, Wanted, outcome
from runtime.epochs import note_epochs
from runtime.kafka_clients import reason
from runtime.settings import Settings

log = structlog.get_logger()

POLL_SECONDS = 0.1

REMEMBERED = 100


class RunUnderWay(Exception):
    """Another run has not ended yet. `run_id` names it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is under way")
        self.run_id = run_id


@dataclass
class Run:
    """One run as it goes on. `published` is None until every record is confirmed, `outcome` until Postgres has all."""

    run_id: str
    published: int | None = None
    outcome: Outcome | None = None
    error: Exception | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def status(self) -> Literal["running", "success", "failed"]:
        if self.outcome is not None:
            return "success"
        return "failed" if self.error is not None else "running"


class IngestRuns:
    """Starts runs and keeps them. Two processes may each run one: ingesting twice changes nothing twice."""

    def __init__(self, publish: IngestRunner, engine: AsyncEngine, settings: Settings) -> None:
        self._publish = publish
        self._settings = settings
        self._engine = engine
        self._runs: dict[str, Run] = {}

    def start(self) -> Run:
        """Start a run in the background. Raises RunUnderWay."""
        for run in self._runs.values():
            if run.status == "running":
                raise RunUnderWay(run.run_id)
        run = Run(str(uuid.uuid4()))
        self._runs[run.run_id] = run
        while len(self._runs) > REMEMBERED:
            del self._runs[next(iter(self._runs))]
        run.task = asyncio.create_task(self._follow(run))
        return run

    def get(self, run_id: str) -> Run | None:
        """A run of this process, if it is remembered."""
        return self._runs.get(run_id)

    async def close(self) -> None:
        """Stop following the run that is under way. What it has published will be taken all the same."""
        for run in self._runs.values():
            if run.task is not None and not run.task.done():
                run.task.cancel()
                await asyncio.wait({run.task})

    async def _follow(self, run: Run) -> None:
        started = time.monotonic()
        try:
            published = await self._publish(run.run_id)
            run.published = published.records
            run.outcome = await self.taken(published.offsets)
        except Exception as error:  # noqa: BLE001 (kept with the run, and raised again to whoever waits for it)
            run.error = error
            log.warning("ingest_failed", run_id=run.run_id, reason=str(error), kind=type(error).__name__)
            return
        seconds = round(time.monotonic() - started, 2)
        log.info(
            "ingested",
            run_id=run.run_id,
            published=run.published,
            stored=run.outcome.stored,
            failed=run.outcome.failed,
            seconds=seconds,
        )

    async def taken(self, wanted: Wanted) -> Outcome:
        """Wait, as long as it takes, until Postgres has taken every record; an outage only makes it longer."""
        noted = False
        while True:
            try:
                if not noted:
                    await self._note_epochs()
                    noted = True
                async with reading(self._engine) as connection:
                    if (now := await outcome(connection, wanted)).pending == 0:
                        return now
            except Unavailable as error:
                log.debug("outcome_unknown", store=error.store, reason=error.reason)
            await asyncio.sleep(POLL_SECONDS)

    async def _note_epochs(self) -> None:
        """Before the books are asked: those of a topic that was made anew would have new records covered already."""
        try:
            await note_epochs(self._settings)
        except KafkaException as error:
            raise Unavailable("kafka", reason(error)) from error
        except Exception as error:
            if trouble := postgres_trouble(error):
                raise Unavailable("postgres", trouble) from error
            raise
