"""What `run`, `publish` and `push` share: sources in turn, progress, the wait for Postgres, the counts."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
import typer
from asyncpg.exceptions import PostgresError
from confluent_kafka import KafkaException
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from commands.output import INTERRUPTED, in_words, print_json, stderr, stdout
from commands.publish_bar import PublishBar, publish_bar
from producers.delivery import Progress
from producers.publish import PublishReport, publish
from producers.source import Source, SourceFailed
from runtime.errors import DeliveryFailed, Explained
from runtime.kafka.clients import reason
from runtime.logging import configure_logging
from runtime.patience import Patience
from runtime.settings import Settings
from services.runs.etl_run import begin_source_run, publish_run
from services.runs.run import Published, failure_reason, not_taken
from stores.checkpoints import Checkpoint, CheckpointFailed
from stores.coverage import wait_until_covered
from stores.epochs import note_epochs
from stores.outages import Unavailable

log = structlog.get_logger()

TERMINATED = 143
"""The same for SIGTERM."""


STORED = ("inserted", "updated", "unchanged", "superseded", "deleted")
HELD = ("held",)
"""What the outcomes that a run counts as stored, and those it counts as failed without being so, are called."""


MOST_LISTED = 20
"""Columns that a line names."""


@dataclass
class Run:
    """One source's run, as it ended or as far as it is. `error` is None while nothing is wrong with it."""

    progress: Progress
    dataset: str | None
    """None for a source that could not be run, since its block is wrong."""
    run_id: str | None = None
    report: PublishReport | None = None
    error: str | None = None
    stored: int | None = None
    failed: int | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    pending: int | None = None


@dataclass
class PublishRuns:
    """The runs of one command, in order. With a `trigger` each is an ETL run: one at a time per source, recorded."""

    settings: Settings
    as_json: bool
    wait: bool
    timeout_seconds: float | None
    """How long to wait while Postgres takes none of a run's records; None: as long as it takes."""
    trigger: str | None = None
    checkpoint: Checkpoint | None = None
    """As `publish` takes it."""
    runs: list[Run] = field(default_factory=list)

    def execute(self, sources: Sequence[Source], broken: Mapping[str, str]) -> None:
        """Publish all sources; a failing one stops no other. Prints counts, and exits: 0 only if all was confirmed.

        `broken`: what is wrong with those that could not be run, by name; they count as failed, after all others.
        """
        configure_logging(_quieter(self.settings), "publish")
        try:
            asyncio.run(self._publish_all(sources))
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            for run in self.runs:
                if run.error is None and (run.report is None or (self.trigger and run.stored is None)):
                    run.error = "interrupted"
            self._print()
            raise typer.Exit(INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED) from None
        self.runs += [Run(Progress(name), None, error=problems) for name, problems in broken.items()]
        self._print()
        if any(run.error for run in self.runs):
            raise typer.Exit(1)

    async def _publish_all(self, sources: Sequence[Source]) -> None:
        # As Ctrl-C does: what is queued is flushed, and the run is recorded as failed.
        if task := asyncio.current_task():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        for source in sources:
            run = Run(Progress(source.description.name), source.description.dataset.name)
            self.runs.append(run)
            with self._bar(run) as bar:
                try:
                    if self.trigger:
                        await self._run_one(source, run, bar, self.trigger)
                    else:
                        await self._publish_one(source, run, bar)
                except Exception as error:  # not ours to explain, and no reason not to read the other sources
                    log.exception("source_failed", source=run.progress.source)
                    run.error = failure_reason(error, run.progress.confirmed)
        if self.wait and not self.trigger:
            engine = create_async_engine(self.settings.async_database_url, pool_size=1)
            try:
                for run in self.runs:
                    if run.report is not None:
                        await self._wait_for(run, run.report, engine)
            finally:
                await engine.dispose()

    async def _run_one(self, source: Source, run: Run, bar: PublishBar | None, trigger: str) -> None:
        def pending(count: int) -> None:
            run.pending = count
            if bar:
                bar.show_stored(run.progress.confirmed - count, run.progress.confirmed)

        async def published() -> Published:
            run.report = await publish_run(etl, source, self.settings, _shown(run, bar), self.checkpoint)
            return Published(run.report.published, run.report.offsets)

        try:
            etl = await begin_source_run(source, self.settings, trigger)
            run.run_id = etl.run_id
            outcome = await etl.complete(published, wait_seconds=self.timeout_seconds, pending=pending)
        except Unavailable as error:
            done = "all records are published, but " if run.report else ""
            run.error = f"{done}{error.store} does not answer: {error.reason}; `headrace status` says what is down"
        except Explained as error:
            run.error = _without_name(error, source)
        else:
            run.stored, run.failed, run.pending = outcome.stored, outcome.failed, outcome.pending
        if run.run_id:
            run.outcomes = etl.outcomes

    async def _publish_one(self, source: Source, run: Run, bar: PublishBar | None) -> None:
        try:
            shown = _shown(run, bar)
            run.report = await publish(source, self.settings, progress=shown, checkpoint=self.checkpoint)
            run.run_id = run.report.run_id
        except (SourceFailed, DeliveryFailed, CheckpointFailed) as failure:
            run.error = _without_name(failure, source)

    async def _wait_for(self, run: Run, report: PublishReport, engine: AsyncEngine) -> None:
        patience = Patience(self.timeout_seconds)
        try:
            await note_epochs(self.settings)
            outcome = await wait_until_covered(self.settings, engine, report.offsets, patience, run=report.run_id)
        except (SQLAlchemyError, PostgresError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            run.error = (
                f"all records are published, but Postgres cannot be asked for them: {cause}; see `headrace status`"
            )
            return
        except KafkaException as error:
            run.error = f"all records are published, but Kafka does not answer any more: {reason(error)}"
            return
        run.stored, run.failed, run.pending = outcome.stored, outcome.failed, outcome.pending
        run.outcomes = outcome.counts()
        if outcome.gone:
            run.error = outcome.why_gone()
        elif outcome.pending:
            run.error = not_taken(outcome, report.published, patience)

    @contextmanager
    def _bar(self, run: Run) -> Iterator[PublishBar | None]:
        if self.as_json or not stderr.is_terminal:
            yield None
            return
        with publish_bar(run.progress.source) as bar:
            yield bar

    def _print(self) -> None:
        if self.as_json:
            print_json({"ok": not any(run.error for run in self.runs), "runs": [_as_json(run) for run in self.runs]})
            return
        for run in self.runs:
            (stderr if run.error else stdout).print(describe(run), markup=False)


def _shown(run: Run, bar: PublishBar | None) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        run.progress = progress
        if bar:
            bar.show(progress)

    return show


def _without_name(error: Exception, source: Source) -> str:
    """The line of counts begins with the source's name already."""
    return str(error).removeprefix(f"{source.description.name}: ")


def describe(run: Run) -> str:
    """The line of counts of a run."""
    progress = run.progress
    if run.dataset is None:
        return f"{progress.source}: not run\n  failed: {run.error}"
    seconds = f" in {run.report.seconds:.1f} s" if run.report else ""
    line = f"{progress.source}: {progress.confirmed:,} records published to {run.dataset}{seconds}"
    if progress.encoding and progress.encoding.name != "utf-8" and progress.encoding.by != "setting":
        line += f", read as {progress.encoding}"
    if progress.unchanged:
        line += f", {progress.unchanged:,} unchanged"
    if progress.blank:
        line += f", {progress.blank:,} blank rows left out"
    if progress.rejected_rows:
        line += f", {progress.rejected_rows:,} of them unreadable (they become failures)"
    if progress.confirmed < progress.sent:
        line += f", {progress.sent - progress.confirmed:,} sent but not confirmed"
    if run.stored is not None:
        line += (
            f"; in Postgres: {run.stored:,} stored{_among(run, STORED)}, {run.failed or 0:,} failed{_among(run, HELD)}"
        )
    remarks = [
        *([f"columns left out: {_listed(progress.left_out)}"] if progress.left_out else []),
        *([f"warning: {run.report.warning}"] if run.report and run.report.warning else []),
        *([f"failed: {run.error}"] if run.error else []),
    ]
    return "\n  ".join([line, *remarks])


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - MOST_LISTED
    return ", ".join(columns[:MOST_LISTED]) + (f" and {more:,} more (--json lists them)" if more > 0 else "")


def _among(run: Run, kinds: Sequence[str]) -> str:
    counted = in_words({kind: run.outcomes.get(kind, 0) for kind in kinds})
    return f" ({counted})" if counted else ""


def _as_json(run: Run) -> dict[str, object]:
    return {
        "source": run.progress.source,
        "dataset": run.dataset,
        "run": run.run_id,
        "published": run.progress.confirmed,
        "unconfirmed": run.progress.sent - run.progress.confirmed,
        "unchanged": run.progress.unchanged,
        "blank_rows": run.progress.blank,
        "rejected_rows": run.progress.rejected_rows,
        "encoding": run.progress.encoding and run.progress.encoding._asdict(),
        "seconds": round(run.report.seconds, 3) if run.report else None,
        "stored": run.stored,
        "failed": run.failed,
        "outcomes": run.outcomes or None,
        "pending": run.pending,
        "columns_left_out": list(run.progress.left_out),
        "warning": run.report.warning if run.report else None,
        "error": run.error,
    }


def _quieter(settings: Settings) -> Settings:
    """A command prints its own lines: its log says only what is wrong, unless LOG_LEVEL asks for more."""
    return (
        settings if "log_level" in settings.model_fields_set else settings.model_copy(update={"log_level": "WARNING"})
    )
