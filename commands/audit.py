"""`headrace audit`: the place of every record, from source to outcome."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.table import Table

from commands.output import outcomes_in_words, print_json, stdout
from commands.trouble import answered_by
from runtime.settings import load_settings
from services.audits.audit import PartitionAudit, audit_json, audit_when_settled
from services.audits.moved_keys import MovedKeys

WRONG: tuple[tuple[Callable[[PartitionAudit], int], str], ...] = (
    (lambda row: sum(stop - start for start, stop in row.holes), "LOST"),
    (lambda row: row.expired, "EXPIRED (deleted from Kafka before Postgres had them)"),
    (lambda row: row.unprovable, "UNPROVABLE (vanished from Kafka before Postgres had them)"),
    (lambda row: row.outcomes.get("held", 0), "HELD (`headrace failures list` says why)"),
)
"""Counts that make an audit unclean, with their words in the last line."""

RARE = ("void", "held", "expired", "unprovable")
"""Columns that are shown only where one of their numbers is not 0."""


def audit(
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Wait until nothing is in flight or held; fail when it gets no less for so long.",
        ),
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Compare every key's version in Postgres, Elasticsearch and the cache too.")
    ] = False,
    settle: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="With --deep: wait that long for stores that lag.")
    ] = 15.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="With --deep: publish what differs again, so that the sinks repair it.")
    ] = False,
) -> None:
    """Compare what Postgres has booked with what the raw topics hold, and say of every record where it is.

    Exit code 0 if all are accounted for, in flight or held by an open transaction; 1 if records are lost, were deleted
    (expired) or have vanished (unprovable) before Postgres had them, while records of a source that is over the failure
    limit are held, on counts that do not add up, or if --wait runs out. An offset is not a record: markers and aborted
    records of transactions are counted as void.
    With --deep also 1 if a document or a cache entry is missing, stale, newer than its row, or has no row.
    With --repair, which means --deep, such keys are published and compared again: 0 if all stores follow in the end.

    Examples:

      headrace audit

      headrace audit --wait 60

      headrace audit --deep --settle 30

      headrace audit --deep --repair

      headrace audit --json | jq '.partitions[] | select(.clean | not)'
    """
    settings = load_settings()
    with answered_by("Postgres", soon=False):
        rows, moved, reprocessed = asyncio.run(audit_when_settled(settings, wait))
    stores = None
    if deep or repair:
        from commands.deep_audit import deep_audit, print_deep_audit  # Elasticsearch's client takes 0.7 s to load

        stores = deep_audit(settings, settle, repairing=repair)
    if as_json:
        print_json(audit_json(rows, moved, reprocessed) | ({"deep": stores.json()} if stores else {}))
    else:
        stdout.print(_table(rows))
        stdout.print(verdict(rows))
        for one in moved:
            stdout.print(remark(one))
        if reprocessed:
            counted = ", ".join(f"{outcome} {count:,}" for outcome, count in reprocessed.items())
            stdout.print(f"read again by `headrace reprocess`, counted apart: {counted}", markup=False)
        if stores:
            print_deep_audit(stores)
    follow = stores is None or all(store.clean and not (repair and store.in_flight) for store in stores.stores)
    if not follow or not all(row.clean for row in rows) or (wait and any(row.on_its_way for row in rows)):
        raise typer.Exit(1)


def verdict(rows: Sequence[PartitionAudit]) -> str:
    """The last line."""
    unbalanced = [f"{row.topic}/{row.partition}" for row in rows if not row.balanced]
    outcomes: Counter[str] = Counter()
    for row in rows:
        outcomes.update(row.outcomes)
    counted = outcomes_in_words(outcomes) or "none yet"
    covered, in_flight = sum(row.covered for row in rows), sum(row.in_flight for row in rows)
    wrong = [
        f"{sum(count(row) for row in rows):,} {words}" for count, words in WRONG if any(count(row) for row in rows)
    ]
    judgement = ", ".join(wrong) or "all accounted for"
    if strangers := sorted({row.topic for row in rows if not row.declared}):
        judgement += f"; of datasets that are declared no more: {', '.join(strangers)}"
    if unbalanced:
        judgement += f"; counts that do NOT ADD UP in {', '.join(unbalanced)}"
    line = f"audit: {covered:,} records in {len(rows)} partitions, {judgement} ({counted}); {in_flight:,} in flight"
    if held := sum(row.held for row in rows):
        line += f"; {held:,} held by an open transaction"
    if void := sum(row.void for row in rows):
        line += f"; {void:,} offsets carry no record"
    return line


def remark(moved: MovedKeys) -> str:
    """A remark on a dataset whose keys came in several partitions."""
    return (
        f"{moved.dataset}: {moved.records:,} records of {moved.keys:,} keys came in another partition than the record "
        "before, and were ordered by time. Were partitions added, or has a foreign producer another partitioner?"
    )


def _table(rows: Sequence[PartitionAudit]) -> Table:
    rare = [name for name in RARE if any(getattr(row, name) for row in rows)]
    names = ("TOPIC", "PARTITION", "BEGIN", "END", "COVERED", "IN FLIGHT", *(name.upper() for name in rare), "LOST")
    table = Table(*names, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        lost = ", ".join(f"[{start},{stop})" for start, stop in row.holes)
        numbers = (row.begin, row.end, row.covered, row.in_flight, *(getattr(row, name) for name in rare))
        table.add_row(
            row.topic,
            str(row.partition),
            *(f"{number:,}" for number in numbers),
            f"[bold red]\\{lost}[/]" if lost else "none",
        )
    return table
