"""Runs of a small source, in this process and as commands; the books as the Postgres sink would leave them."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producers.source import Source, SourceBatch, SourceDescription
from runtime.settings import Settings
from schemas.registry import dataset_named
from services.runs.run import Run, run_source
from stores.coverage import Outcome
from tests.e2e.stores import rows
from tests.processes import PROJECT, environment_of
from tests.waiting import eventually

ROWS = 30

COVER = (
    "INSERT INTO coverage (topic, partition, ranges)"
    " SELECT $1, p, '{[0,100000)}' FROM generate_series(0, $2::int - 1) p ON CONFLICT DO NOTHING"
)


def small_sources(settings: Settings, *blocks: str) -> Settings:
    """Settings whose sources file declares `letters`, a CSV file of ROWS rows, and these blocks."""
    folder = settings.home
    letters = "\n".join(f"{number},letter {number}" for number in range(ROWS))
    (folder / "letters.csv").write_text(f"source_id,name\n{letters}\n")
    block = '[sources.letters]\nkind = "csv"\npath = "letters.csv"\ndataset = "records"\n'
    (folder / "small.toml").write_text("\n".join((block, *blocks)))
    return settings.model_copy(update={"sources_file": folder / "small.toml"})


def cover(settings: Settings, dataset: str = "records") -> None:
    """Let every raw record of a dataset count as taken by Postgres, those to come too."""
    rows(settings, COVER, settings.named(f"{dataset}.raw"), settings.topic_partitions)


def recorded(settings: Settings, source: str = "letters") -> list[dict[str, Any]]:
    """The recorded runs of a source, oldest first."""
    return rows(settings, "SELECT * FROM etl_runs WHERE source = $1 ORDER BY started_at", source)


def until_published(settings: Settings, source: str = "letters") -> dict[str, Any]:
    """Wait until a run of the source has published everything and waits for Postgres; the run."""

    def waiting() -> list[dict[str, Any]]:
        return [run for run in recorded(settings, source) if (run["status"], run["published"]) == ("running", ROWS)]

    return eventually(waiting, what="the run is published and waits for Postgres")[-1]


@dataclass
class EmptySource:
    """A source of no records. A run of it goes on until it is `released`, or fails with `error`."""

    name: str = "letters"
    error: Exception | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def description(self) -> SourceDescription:
        return SourceDescription(self.name, "test", dataset_named("records"))

    @property
    def content_type(self) -> str:
        return "application/json"

    async def batches(self) -> AsyncIterator[SourceBatch]:
        if self.error:
            raise self.error
        await self.released.wait()
        yield SourceBatch([], 1.0)


async def begun(settings: Settings, source: Source) -> tuple[Run, asyncio.Task[Outcome]]:
    """A run of that source, as soon as it has begun, and the task that does it."""
    beginning = asyncio.Event()
    run = Run(source, on_change=beginning.set)
    task = asyncio.create_task(run_source(run, settings, "run"))
    waiting = asyncio.create_task(beginning.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    return run, task


class Command:
    """`headrace` with these settings, in a process of its own."""

    def __init__(self, settings: Settings, folder: str | Path = PROJECT) -> None:
        self._folder = folder
        self._environment = os.environ | environment_of(settings) | {"SOURCES_FILE": str(settings.sources_file)}

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words(words),
            env=self._environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
        )

    def __call__(self, *words: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._words(words),
            env=self._environment | variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self._folder,
        )

    def json(self, *words: str, expect: int = 0) -> Any:
        """What a command prints with --json."""
        done = self(*words, "--json")
        assert done.returncode == expect, done.stdout + done.stderr
        return json.loads(done.stdout)

    @staticmethod
    def _words(words: Sequence[str]) -> list[str]:
        # As people type it.
        return [sys.executable, str(Path(PROJECT, "cli.py")), *words]
