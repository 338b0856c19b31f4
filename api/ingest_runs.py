"""Ingestion runs that this process was asked for: followed to their end, whoever still listens."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import structlog
from confluent_kafka import KafkaException
from sqlalchemy.ext.asyncio import AsyncEngine

from api.database import reading
from api.stages import IngestRunner
from runtime.kafka.clients import reason
from runtime.settings import Settings
from schemas.registry import dataset_named
from services.runs.run import EtlRun, begin_run
from stores.coverage import Outcome, Wanted, outcome
from stores.epochs import note_epochs
from stores.unavailable import Unavailable, postgres_trouble

log = structlog.get_logger()

INGESTED_SOURCE = "customers_api"
"""The block of sources.toml that `POST /api/ingest` runs."""

POLL_SECONDS = 0.1


@dataclass
class Run:
    """A run as it goes on. `outcome` is None until Postgres has all its records, `error` unless it failed."""

    etl: EtlRun
    outcome: Outcome | None = None
    error: Exception | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def run_id(self) -> str:
        return self.etl.run_id

    @property
    def status(self) -> Literal["running", "success", "failed"]:
        if self.outcome is not None:
            return "success"
        return "failed" if self.error is not None else "running"


class IngestRuns:
    """Starts runs and follows them."""

    def __init__(self, publish: IngestRunner, engine: AsyncEngine, settings: Settings) -> None:
        self._publish = publish
        self._settings = settings
        self._engine = engine
        self._following: set[asyncio.Task[None]] = set()

    async def start(self) -> Run:
        """Start a run in the background. Raises RunUnderWay if there is one, on any host; Unavailable for Postgres."""
        run = Run(await begin_run(self._settings, INGESTED_SOURCE, dataset_named("customers").name, "api"))
        run.task = asyncio.create_task(self._follow(run))
        self._following.add(run.task)
        run.task.add_done_callback(self._following.discard)
        # Its first step: cancelled before that, it would neither record its failure nor give its lock back.
        await asyncio.sleep(0)
        return run

    async def close(self) -> None:
        """Stop the runs under way; each is recorded as failed. What they have published will be stored all the same."""
        for task in self._following:
            task.cancel()
        if self._following:
            await asyncio.wait(self._following)

    async def _follow(self, run: Run) -> None:
        try:
            run.outcome = await run.etl.complete(lambda: self._publish(run.etl))
        except Exception as error:  # noqa: BLE001 (recorded and logged; raised again to whoever waits for it)
            run.error = error

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
