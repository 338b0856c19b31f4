"""`headrace reset`: forget what the runs did."""

import asyncio
from collections.abc import Collection
from typing import Annotated

import typer

from commands.output import fail, stdout
from commands.trouble import answered_by
from runtime.errors import Explained
from runtime.settings import Settings, load_settings
from services.runs.history import ask, forget_runs


def reset(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE…]", help="Names of sources; by default all.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget the history of runs, and how far each source has been read: the next run reads everything.

    Deletes: the rows of `etl_runs` (so `headrace stats` begins at nothing) and the checkpoints of incremental sources.

    Does not delete: any record that is stored, indexed, cached or among the failures, nor anything in Kafka. Reading
    everything again changes nothing that has not changed in the source. (`headrace clean` deletes the stack's data.)

    Refuses while a run of such a source is under way, and a name that no source has or had.

    Examples:

      headrace reset

      headrace reset titanic --yes
    """
    settings = load_settings()
    whose = ", ".join(sources) if sources else "all sources"
    if not yes:
        typer.confirm(f"Forget the run history and the checkpoints of {whose}? Stored records stay.", abort=True)
    declared = _declared(settings) if sources else ()
    try:
        with answered_by("Postgres"):
            deleted = asyncio.run(ask(settings, lambda connection: forget_runs(connection, sources, declared)))
    except Explained as error:
        fail(str(error))
    counts = ", ".join(f"{number:,} rows of {table}" for table, number in deleted.items())
    stdout.print(f"Forgotten of {whose}: {counts}. The next run reads everything; stored records are as they were.")


def _declared(settings: Settings) -> Collection[str]:
    """None in a file that cannot be read: what has run is known without it."""
    from producers.sources import SourcesError, load_sources  # here, since every kind of source is loaded with it

    try:
        sources = load_sources(settings.sources_file, settings)
    except SourcesError:
        return ()
    return {*sources, *sources.broken}
