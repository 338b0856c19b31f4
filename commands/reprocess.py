"""`headrace reprocess`: read stored records again, with the normalizer and the mappings of now."""

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.pool import NullPool

from commands.failure_access import time_of
from commands.output import INTERRUPTED, WRONG_USAGE, fail, print_json, stderr, stdout
from commands.trouble import answered_by
from producers.source import check_takes_records
from producers.sources import SourcesError
from runtime.logging import configure_logging
from runtime.patience import Patience
from runtime.settings import Settings, load_settings
from schemas.registry import UnknownDataset, dataset_named
from services.reprocessing.reprocess import Choice, Counts, Reading, Reprocess, declared_readings
from stores.epochs import note_epochs
from stores.postgres_engine import postgres_engine


def reprocess(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset whose records are read again.")],
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only records of this source, and the deletes of all.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Came then or later: 30m, 2h, 1d ago, or ISO 8601.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Begin from the start, instead of going on where an interrupted one ended.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait for Postgres, so long without progress.")
    ] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, no progress.")] = False,
) -> None:
    """Read stored records again, after a mapping or the normalizer was put right.

    Records come from the raw topic, or from the landing tables where the topic has forgotten them. Each is read with
    the mapping that sources.toml has for its source NOW (one that is not declared there: with its own), and keeps its
    place in the order: a newer row wins, and deleted records stay deleted. A failure that is valid now is stored; what
    is held, or somebody has edited, sent again or discarded, is left to `headrace failures`. A record that is invalid
    now stays as it is stored. If keys were wrong, reprocess the whole dataset.

    After Ctrl-C the same command goes on where it ended. Exit code 0 only if all stored records are valid now and
    Postgres has taken them; 1 otherwise; 2 for wrong usage.

    Examples:

      headrace reprocess orders --dry-run

      headrace reprocess records --source shop

      headrace reprocess customers --since 2d --json
    """
    settings = load_settings()
    try:
        chosen = Choice(check_takes_records(dataset_named(dataset)), source, time_of("--since", since))
        readings = declared_readings(settings, chosen.dataset, source)
    except (UnknownDataset, SourcesError, ValueError) as error:
        fail(str(error), WRONG_USAGE)
    configure_logging(settings.model_copy(update={"log_level": "ERROR"}), "reprocess")
    try:
        with answered_by("Postgres", soon=False):
            told = asyncio.run(_run(settings, chosen, readings, since or "", dry_run, full, wait, as_json))
    except KeyboardInterrupt:
        stderr.print("Interrupted; the same command goes on where this one ended.")
        raise typer.Exit(INTERRUPTED) from None
    if source and source not in readings and told["topic"] + told["landing"] == told["deletes"]:
        fail(f"no record of {dataset} came from a source {source!r}; `headrace stats` lists sources")
    if as_json:
        print_json(told)
    else:
        stdout.print("\n".join(_lines(dataset, told)), markup=False)
    if told["invalid"] or told.get("pending") or told.get("outcomes", {}).get("failed"):
        raise typer.Exit(1)


async def _run(
    settings: Settings,
    choice: Choice,
    readings: dict[str, Reading],
    scope: str,
    dry_run: bool,
    full: bool,
    wait: float,
    as_json: bool,
) -> dict[str, Any]:
    engine = postgres_engine(settings, poolclass=NullPool)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        await note_epochs(settings)
        with Progress(*columns, console=stderr, disable=as_json or not stderr.is_terminal, transient=True) as bar:
            task = bar.add_task("read again", total=None)

            def show(counts: Counts, total: int) -> None:
                bar.update(task, completed=counts.offsets, total=total)

            work = Reprocess(settings, engine, choice, readings)
            if dry_run:
                planned: dict[str, Any] = msgspec.to_builtins(await work.plan(show))
                return planned | {"dry_run": True}
            state = await work.run(scope, from_start=full, progress=show)
            bar.update(task, description="taken by Postgres", completed=0, total=state.counts.sent)
            outcomes = await work.outcomes(state, Patience(wait), lambda taken: bar.update(task, completed=taken))
        pending = state.counts.sent - sum(outcomes.values())
        if not pending:
            await work.end(scope)
        told: dict[str, Any] = msgspec.to_builtins(state.counts)
        return told | {"dry_run": False, "job": state.job, "outcomes": outcomes, "pending": pending}
    finally:
        await engine.dispose()


def _lines(dataset: str, told: dict[str, Any]) -> list[str]:
    chosen = f"{told['topic'] + told['landing']:,} records chosen ({told['topic']:,} in the topic, "
    chosen += f"{told['landing']:,} in the landing tables)"
    invalid = sum(told["invalid"].values())
    verb = "would be sent" if told["dry_run"] else "sent"
    deletes = f" ({told['deletes']:,} of them deletes)" if told["deletes"] else ""
    lines = [f"{dataset}: {chosen}, {told['sent']:,} {verb}{deletes}, {invalid:,} invalid now"]
    if told["dry_run"]:
        lines.append(f"  of these, as things stand: {_numbers(told['forecast'])}. Nothing was sent.")
    else:
        lines.append(f"  in Postgres: {_numbers(told['outcomes'])}")
        if told["outcomes"].get("failed"):
            lines.append("  what Postgres refuses stays as it was; `headrace logs sink-postgres` says why")
        if told["pending"]:
            lines.append(f"  {told['pending']:,} are on their way; the same command waits for them again")
    if told["invalid"]:
        lines.append(f"  invalid, so what is stored of them stays: {_numbers(told['invalid'])}")
        lines += [f"    {one['key']}: {one['reason']}: {one['message']}" for one in told["examples"]]
    if told["still_failed"]:
        lines.append(f"  {told['still_failed']:,} are failures, and would fail again")
    if told["acted_on"]:
        lines.append(f"  {told['acted_on']:,} are left to `headrace failures`: held, sent again, edited or discarded")
    if told["no_mapping"]:
        lines.append(
            f"  {told['no_mapping']:,} are only in the landing tables, which keep no mapping, and their source is not "
            "in sources.toml: declare it there"
        )
    if told["nowhere"]:
        lines.append(f"  {told['nowhere']:,} offsets have no record any more, neither in the topic nor landed")
    return lines


def _numbers(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "nothing"
