"""The shared part of `run`, `publish` and `push`: sources in turn, progress, the wait for Postgres, the counts."""

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import structlog
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from commands.output import INTERRUPTED, outcomes_in_words, print_json, stderr, stdout
from producers.delivery import Progress
from producers.source import Source
from runtime.errors import Explained
from runtime.logging import configure_logging
from runtime.patience import Patience
from runtime.settings import Settings
from runtime.tracing import start_tracing
from services.runs.run import NotTaken, Run, failure_reason, outage, publish_source, run_source, wait_until_stored
from stores.checkpoints import Checkpoint
from stores.coverage import Outcome
from stores.outages import Unavailable, in_words, meaning
from stores.postgres_engine import postgres_engine

log = structlog.get_logger()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, no progress.")]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long --wait waits while Postgres takes nothing.")
]

TIMEOUT_SECONDS = 120.0

TERMINATED = 143
"""The exit code for SIGTERM, as INTERRUPTED is for Ctrl-C."""

STORED = ("inserted", "updated", "unchanged", "superseded", "deleted")
HELD = ("held",)
"""The outcomes that a run counts as stored, and those that it counts as failed without being so."""

MOST_LISTED = 20
"""Columns that a line names."""


@dataclass
class Result:
    """The result of one source. `error` is None while nothing is wrong with it."""

    source: str
    run: Run | None
    """None for a source that could not be run, since its block is wrong."""
    error: str | None = None
    outcome: Outcome | None = None
    """Of a recorded run, only of one that succeeded."""

    @property
    def progress(self) -> Progress:
        return (self.run and self.run.progress) or Progress(self.source)


@dataclass
class PublishRuns:
    """The sources of one command, in order. With a `trigger` each is an ETL run: one at a time per source, recorded."""

    settings: Settings
    as_json: bool
    wait: bool
    timeout_seconds: float | None
    """The wait ends when Postgres has taken none of a run's records for so long; None: never."""
    trigger: str | None = None
    checkpoint: Checkpoint | None = None
    """As `publish` takes it."""
    results: list[Result] = field(default_factory=list)

    def execute(self, sources: Sequence[Source], broken: Mapping[str, str]) -> None:
        """Publish all sources; a failing one stops no other. Prints counts, and exits: 0 only if all was confirmed.

        `broken`: the problems of those that could not be run, by name; they count as failed, after all others.
        """
        configure_logging(_quieter(self.settings), "publish")
        start_tracing(self.settings, "publish")
        try:
            asyncio.run(self._publish_all(sources))
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            for result in self.results:
                published = result.run is not None and result.run.report is not None
                if result.error is None and (not published or (self.trigger and result.outcome is None)):
                    result.error = "interrupted"
            self._print()
            raise typer.Exit(INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED) from None
        self.results += [Result(name, None, problems) for name, problems in broken.items()]
        self._print()
        if any(result.error for result in self.results):
            raise typer.Exit(1)

    async def _publish_all(self, sources: Sequence[Source]) -> None:
        # As Ctrl-C does: what is queued is flushed, and the run is recorded as failed.
        if task := asyncio.current_task():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        for source in sources:
            run = Run(source)
            result = Result(run.name, run)
            self.results.append(result)
            with self._bar(run):
                try:
                    await self._publish(run, result)
                except Unavailable as error:
                    done = "all records are published, but " if run.report else ""
                    away = f"{error.store} does not answer: {error.reason}"
                    result.error = f"{done}{away}; `headrace status` says what is down"
                except Explained as error:
                    # The line of counts begins with the source's name already.
                    result.error = str(error).removeprefix(f"{run.name}: ")
                except Exception as error:  # not ours to explain, and no reason not to read the other sources
                    log.exception("source_failed", source=run.name)
                    result.error = failure_reason(error, run.published)

    async def _publish(self, run: Run, result: Result) -> None:
        if self.trigger:
            result.outcome = await run_source(
                run, self.settings, self.trigger, checkpoint=self.checkpoint, wait_seconds=self.timeout_seconds
            )
            return
        await publish_source(run, self.settings, self.checkpoint)
        if self.wait:
            await self._wait(run, result)

    async def _wait(self, run: Run, result: Result) -> None:
        engine = postgres_engine(self.settings, pool_size=1)
        try:
            await wait_until_stored(run, self.settings, engine, Patience(self.timeout_seconds))
        except NotTaken as error:
            result.error = str(error)
        except Exception as error:
            if store := outage(error):
                away = f"{store.store.capitalize()} cannot be asked for them: {store.reason}"
            elif meaning(error):
                away = f"Postgres cannot be asked for them: {in_words(error)}"
            else:
                raise
            result.error = f"all records are published, but {away}; see `headrace status`"
        finally:
            result.outcome = run.outcome
            await engine.dispose()

    @contextmanager
    def _bar(self, run: Run) -> Iterator[None]:
        """Show on a terminal how many records Kafka has confirmed, then how many Postgres has taken."""
        if self.as_json or not stderr.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            MofNCompleteColumn(separator=" of "),
            TimeElapsedColumn(),
        )
        with Bar(*columns, console=stderr, transient=True) as bar:
            task = bar.add_task(f"{run.name}: confirmed by Kafka", total=None)

            def show() -> None:
                progress = run.progress
                if progress is None:
                    return
                if run.pending is not None:
                    taken = progress.confirmed - run.pending
                    described = f"{run.name}: taken by Postgres"
                    bar.update(task, description=described, completed=taken, total=progress.confirmed)
                else:
                    # Estimated from the share of the source that has been read.
                    total = max(progress.sent, round(progress.sent / progress.done)) if progress.done else None
                    bar.update(task, completed=progress.confirmed, total=total)

            run.on_change = show
            yield

    def _print(self) -> None:
        if self.as_json:
            ok = not any(result.error for result in self.results)
            print_json({"ok": ok, "runs": [_as_json(result) for result in self.results]})
            return
        for result in self.results:
            (stderr if result.error else stdout).print(describe(result), markup=False)


def describe(result: Result) -> str:
    """The line of counts of a source, and remarks below it."""
    run, progress, outcome = result.run, result.progress, result.outcome
    if run is None:
        return f"{result.source}: not run\n  failed: {result.error}"
    seconds = f" in {run.report.seconds:.1f} s" if run.report else ""
    dataset = run.source.description.dataset.name
    line = f"{result.source}: {progress.confirmed:,} records published to {dataset}{seconds}"
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
    if outcome is not None:
        stored = f"{outcome.stored:,} stored{_among(outcome, STORED)}"
        line += f"; in Postgres: {stored}, {outcome.failed:,} failed{_among(outcome, HELD)}"
    remarks = [
        *([f"columns left out: {_listed(progress.left_out)}"] if progress.left_out else []),
        *([f"warning: {run.report.warning}"] if run.report and run.report.warning else []),
        *([f"failed: {result.error}"] if result.error else []),
    ]
    return "\n  ".join([line, *remarks])


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - MOST_LISTED
    return ", ".join(columns[:MOST_LISTED]) + (f" and {more:,} more (--json lists them)" if more > 0 else "")


def _among(outcome: Outcome, kinds: Sequence[str]) -> str:
    counted = outcomes_in_words({kind: outcome.counts().get(kind, 0) for kind in kinds})
    return f" ({counted})" if counted else ""


def _as_json(result: Result) -> dict[str, object]:
    run, progress, outcome = result.run, result.progress, result.outcome
    report = run.report if run else None
    return {
        "source": result.source,
        "dataset": run.source.description.dataset.name if run else None,
        "run": run.run_id if run and (run.begun or report) else None,
        "published": progress.confirmed,
        "unconfirmed": progress.sent - progress.confirmed,
        "unchanged": progress.unchanged,
        "blank_rows": progress.blank,
        "rejected_rows": progress.rejected_rows,
        "encoding": progress.encoding and progress.encoding._asdict(),
        "seconds": round(report.seconds, 3) if report else None,
        "stored": outcome.stored if outcome else None,
        "failed": outcome.failed if outcome else None,
        "outcomes": (run.outcome.counts() or None) if run and run.outcome else None,
        "pending": run.pending if run else None,
        "columns_left_out": list(progress.left_out),
        "warning": report.warning if report else None,
        "error": result.error,
    }


def _quieter(settings: Settings) -> Settings:
    """A command prints its own lines: its log says only what is wrong, unless LOG_LEVEL asks for more."""
    return (
        settings if "log_level" in settings.model_fields_set else settings.model_copy(update={"log_level": "WARNING"})
    )
