"""`headrace prune`: what is older than its table is to keep, out of Postgres."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from commands.output import print_json, stdout
from commands.trouble import answered_by
from runtime.settings import load_settings
from services.retention import KEPT
from services.retention import prune as prune_tables


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be taken out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts: rows by table.")] = False,
) -> None:
    """Take out of Postgres what is older than its table keeps; `headrace scheduler` does so every hour.

    LANDING_RETENTION_DAYS, FAILURE_RETENTION_DAYS, RUN_RETENTION_DAYS and DRIFT_RETENTION_DAYS say how long that is.
    What the accounts need stays: coverage, failures that are not settled and their raw records, each source's newest
    run and its checkpoint. It may be stopped at any time.

    Examples:

      headrace prune --dry-run

      headrace prune --json
    """
    settings = load_settings()
    with answered_by("Postgres"):
        pruned = asyncio.run(prune_tables(settings, dry_run=dry_run))
    if as_json:
        print_json(pruned)
        return
    table = Table("TABLE", "KEPT", "WOULD GO" if dry_run else "TAKEN OUT", box=None)
    table.columns[2].justify = "right"
    for kept in KEPT:
        days = kept.days(settings)
        for name in kept.tables:
            table.add_row(name, f"{days:,} days" if days else "for ever", f"{pruned.get(name, 0):,}")
    stdout.print(table)
