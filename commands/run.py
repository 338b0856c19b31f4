"""`headrace run`: run sources now, until Postgres has their records."""

import asyncio
from typing import Annotated

import typer

from commands.output import WRONG_USAGE, fail
from commands.publish import SourcesFile, declared_sources
from commands.publish_runs import AsJson, PublishRuns
from commands.trouble import answered_by
from producers.sources import SourcesError
from runtime.settings import load_settings
from services.runs.history import ask, read_stats


def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE…]", help="Names in sources.toml; by default all.")
    ] = None,
    sources_file: SourcesFile = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long to wait while Postgres takes nothing of a source; by default as long as it takes.",
            show_default=False,
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Of these, only sources that have had no successful run yet.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All records, also those that did not change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run sources as ETL runs: read, publish, and wait until Postgres has stored or refused every record.

    A run goes on where the last one of its source ended, or was killed: what did not change is not sent again.
    Each run is recorded (`headrace stats`, GET /runs). A source is run by one at a time, whoever asks: the second is
    told the run that is under way. A source that fails, or whose block in the file is wrong, stops no other one.

    Exit code 0 only if every run is a success; 1 otherwise; 2 for wrong usage.

    Examples:

      headrace run

      headrace run titanic posts --json

      headrace run customers_api --full

      headrace run --new
    """
    settings = load_settings()
    try:
        sources, broken = declared_sources(names or [], not names, sources_file or settings.sources_file, settings)
    except SourcesError as error:
        fail(str(error), WRONG_USAGE)
    if new:
        with answered_by("Postgres"):
            stats = asyncio.run(ask(settings, read_stats))
        done = {name for name, totals in stats.sources.items() if totals.last_success}
        sources = [source for source in sources if source.description.name not in done]
        broken = {name: problems for name, problems in broken.items() if name not in done}
    runs = PublishRuns(
        settings, as_json, wait=True, timeout_seconds=timeout, trigger="run", checkpoint="restart" if full else "resume"
    )
    runs.execute(sources, broken)
