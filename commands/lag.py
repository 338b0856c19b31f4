"""`headrace lag`: how far each consumer group is behind, by committed offsets."""

import asyncio
import time
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from commands.output import print_json, stdout
from commands.trouble import answered_by
from monitoring.lag import PartitionLag, read_lag
from runtime.settings import Settings, load_settings


def lag(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between refreshes.", min=0.2)] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts (one document).")] = False,
) -> None:
    """Show committed offset, end offset and lag of every group, topic and partition.

    The end is the last stable offset: what waits behind an open transaction is named below the table, and is no lag.

    Examples:

      headrace lag

      headrace lag --watch

      headrace lag --json | jq 'map(.lag) | add'
    """
    settings = load_settings()
    if as_json:
        print_json([row.__dict__ for row in _read(settings)])
        return
    if not watch:
        stdout.print(lag_table(_read(settings)))
        return
    from rich.live import Live  # here, since it is seldom wanted

    try:
        with Live(lag_table(_read(settings)), console=stdout, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(lag_table(_read(settings)), refresh=True)
    except KeyboardInterrupt:
        return


def lag_table(rows: list[PartitionLag]) -> Table:
    """The rows as people know them from Kafka's own tool, with a total per group."""
    table = Table("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        committed = "-" if row.committed is None else f"{row.committed:,}"
        lag = f"[yellow]{row.lag:,}[/]" if row.lag else "0"
        table.add_row(row.group, row.topic, str(row.partition), committed, f"{row.end:,}", lag)
    table.add_section()
    for group in dict.fromkeys(row.group for row in rows):
        total = sum(row.lag for row in rows if row.group == group)
        table.add_row(group, "all", "", "", "", f"{total:,}", style="bold")
    table.caption = "\n".join(held_remarks(rows)) or None
    table.caption_justify = "left"
    return table


def held_remarks(rows: Iterable[PartitionLag]) -> list[str]:
    """A line for each partition that an open transaction holds, whoever reads it."""
    return [_held_remark(row) for row in {(row.topic, row.partition): row for row in rows if row.held}.values()]


def _held_remark(row: PartitionLag) -> str:
    since = "for a while" if row.held_seconds is None else f"for {row.held_seconds:.0f} s"
    return (
        f"{row.topic}/{row.partition}: {row.held:,} offsets from {row.end:,} on are held by a transaction, open {since}"
        "; they come when its producer ends it, or when the broker aborts it (transaction.timeout.ms)"
    )


def _read(settings: Settings) -> list[PartitionLag]:
    with answered_by("Kafka"):
        return asyncio.run(read_lag(settings))
