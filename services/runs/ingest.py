"""Runs that the API begins: the ingestion of all customers, and the delete of one record."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from producers.api.source import ApiSource
from producers.jsonl.source import DeletedKeysSource
from producers.source import Source, SourceBatch, SourceDescription, SourceFailed
from producers.sources import SourcesError, load_sources
from runtime.metrics import PUBLISHED
from runtime.patience import Patience
from runtime.server_addresses import without_secrets
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import dataset_named
from services.runs.run import NotTaken, Run, outlast, publish_source, run_source, wait_until_stored
from stores.coverage import Outcome

INGESTED_SOURCE = "customers_api"
"""The block of sources.toml that `POST /api/ingest` runs."""


@dataclass(frozen=True)
class UndeclaredSource:
    """A source whose block is missing or wrong: a run of it is recorded, and fails. Implements Source."""

    description: SourceDescription
    reason: str

    def batches(self) -> AsyncIterator[SourceBatch]:
        """Raises SourceFailed."""
        raise SourceFailed(self.description.name, self.reason)


class IngestRuns:
    """Ingestions that this process was asked for: each goes on to its end, whoever still waits for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ingesting: set[asyncio.Task[Outcome]] = set()

    async def start(self) -> tuple[Run, asyncio.Task[Outcome]]:
        """Start a run in the background; it and the task that does it, which raises what `run_source` raises.

        Raises RunUnderWay if there is one, on any host; Unavailable for Postgres.
        """
        begun = asyncio.Event()
        run = Run(await asyncio.to_thread(_customers_source, self._settings), on_change=begun.set)
        task = asyncio.create_task(run_source(run, self._settings, "api", checkpoint="restart"))
        self._ingesting.add(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda _: PUBLISHED.labels(run.name).inc(run.published or 0))
        task.add_done_callback(lambda _: begun.set())
        await begun.wait()
        if not run.begun:
            await task
        return run, task

    async def close(self) -> None:
        """Stop the runs under way; each is recorded as failed. What they have published will be stored all the same."""
        for task in self._ingesting:
            task.cancel()
        if self._ingesting:
            await asyncio.wait(self._ingesting)

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        self._ingesting.discard(task)
        if not task.cancelled():
            task.exception()  # it is recorded and logged, whether or not somebody waits for it


def address_of(source: Source, settings: Settings) -> str:
    """The place that customers are read from, or the file that should declare it. Pure."""
    if isinstance(source, ApiSource):
        return without_secrets(source.block.url)
    return str(settings.sources_file) if isinstance(source, UndeclaredSource) else source.description.name


async def publish_delete(
    settings: Settings, engine: AsyncEngine, dataset: Dataset, key: str, wait_seconds: float
) -> Outcome | None:
    """Publish a tombstone for a key; its outcome, or None if Postgres has not taken it within `wait_seconds`.

    Raises DeliveryFailed.
    """
    run = Run(DeletedKeysSource(SourceDescription("api", "push", dataset), (key,)))
    await publish_source(run, settings)
    patience = Patience(None)
    try:
        async with asyncio.timeout(wait_seconds):
            return await outlast(lambda: wait_until_stored(run, settings, engine, patience), patience, run)
    except (TimeoutError, NotTaken):
        return None


def _customers_source(settings: Settings) -> Source:
    try:
        return load_sources(settings.sources_file, settings)[INGESTED_SOURCE]
    except SourcesError as error:
        reason = str(error)
    except KeyError:
        block = f"[sources.{INGESTED_SOURCE}]"
        reason = f"there is no block {block} in {settings.sources_file}; add one, with kind and url"
    return UndeclaredSource(SourceDescription(INGESTED_SOURCE, "api", dataset_named("customers")), reason)
