"""`headrace stats`: what the ETL runs come to."""

import asyncio
import datetime
from dataclasses import asdict
from typing import Annotated

import typer
from msgspec import convert
from rich.table import Table

from commands.output import outcomes_in_words, print_json, stdout
from commands.trouble import answered_by
from runtime.settings import load_settings
from services.runs.anomalies import Anomaly
from services.runs.history import Stats, Totals, ask, read_stats


def stats(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as GET /stats does.")] = False) -> None:
    """Show how many runs each source had, what they brought, what became of it, and how the last ones ended.

    Records, outcomes and seconds are those of successful runs.

    Examples:

      headrace stats

      headrace stats --json | jq .total_records_processed
    """
    with answered_by("Postgres"):
        found = asyncio.run(ask(load_settings(), read_stats))
    if as_json:
        print_json(asdict(found))
    else:
        stdout.print(stats_table(found))
        for one in found.anomalies:
            stdout.print(f"unusual in {one['source']}: {convert(one, Anomaly)}", style="yellow", markup=False)


def stats_table(found: Stats) -> Table:
    """A line per source, and one for all."""
    table = Table(
        "SOURCE", "RUNS", "RECORDS", "SECONDS", "OUTCOMES", "LAST SUCCESS", "LAST FAILURE", "REASON", box=None
    )
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, totals in found.sources.items():
        table.add_row(name, *_cells(totals))
    table.add_section()
    table.add_row("all", *_cells(found), style="bold")
    return table


def _cells(totals: Totals) -> tuple[str, ...]:
    runs = f"{totals.run_count:,}" + (" (running)" if totals.running else "")
    return (
        runs,
        f"{totals.total_records_processed:,}",
        f"{totals.total_duration_seconds:,.1f}",
        outcomes_in_words(totals.outcomes) or "-",
        _at(totals.last_success),
        _at(totals.last_failure),
        # Brackets in a reason would be taken for markup.
        (totals.last_failure_reason or "").replace("[", r"\["),
    )


def _at(when: datetime.datetime | None) -> str:
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ") if when else "-"
