"""`headrace audit`: the place of every record, from source to outcome."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from commands.output import fail, outcomes_in_words, print_json, stderr, stdout
from commands.trouble import answered_by
from runtime.settings import Settings, load_settings
from services.audits.audit import MovedKeys, PartitionAudit, audit_when_settled

if TYPE_CHECKING:
    from services.audits.deep_audit import DeepAudit
    from services.audits.store_comparison import StoreAudit

WRONG: tuple[tuple[Callable[[PartitionAudit], int], str], ...] = (
    (lambda row: sum(stop - start for start, stop in row.holes), "LOST"),
    (lambda row: row.expired, "EXPIRED (deleted from Kafka before Postgres had them)"),
    (lambda row: row.unprovable, "UNPROVABLE (vanished from Kafka before Postgres had them)"),
    (lambda row: row.beyond, "BOOKED BUT NOT IN KAFKA (forged on a clean topic, or Kafka has lost the end of its log)"),
    (lambda row: row.outcomes.get("held", 0), "HELD (`headrace failures list` says why)"),
)
"""Counts that make an audit unclean, with their words in the last line."""

RARE = ("void", "held", "expired", "unprovable", "beyond")
"""Columns that are shown only where one of their numbers is not 0."""

SHOWN_KEYS = 10
"""Differing keys that are named per dataset and store; --json has them all."""


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
    (expired) or have vanished (unprovable) before Postgres had them, where Postgres has booked what Kafka does not have
    (beyond), while records of a source that is over the failure limit are held, on counts that do not add up, or if
    --wait runs out. An offset is not a record: markers and aborted records of transactions are counted as void.
    With --deep also 1 if a document or a cache entry is missing, stale, newer than its row, or has no row, or if a
    table's rows are not as many as is kept.
    With --repair, which means --deep, such keys are published and compared again, and such rows counted again: 0 if all
    stores follow in the end.

    Examples:

      headrace audit

      headrace audit --wait 60

      headrace audit --deep --settle 30

      headrace audit --deep --repair

      headrace audit --json | jq '.partitions[] | select(.clean | not)'
    """
    settings = load_settings()
    with answered_by("Postgres", soon=False):
        found = asyncio.run(audit_when_settled(settings, wait))
    stores = _deep_audit(settings, settle, repairing=repair) if deep or repair else None
    if as_json:
        print_json(found.json() | ({"deep": stores.json()} if stores else {}))
    else:
        stdout.print(_table(found.partitions))
        stdout.print(verdict(found.partitions))
        for one in found.moved:
            stdout.print(remark(one))
        if found.reprocessed:
            counted = ", ".join(f"{outcome} {count:,}" for outcome, count in found.reprocessed.items())
            stdout.print(f"read again by `headrace reprocess`, counted apart: {counted}", markup=False)
        if stores:
            _print_deep_audit(stores)
    in_flight = stores is not None and repair and any(store.in_flight for store in stores.stores)
    follow = stores is None or (stores.clean and not in_flight)
    accounted_for = all(row.clean and not (wait and row.on_its_way) for row in found.partitions)
    if not (follow and accounted_for):
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


def _deep_audit(settings: Settings, settle: float, *, repairing: bool) -> "DeepAudit":
    """Compare every dataset in every store, and repair what differs if asked to; tell on a terminal how far it is."""
    from services.audits.deep_audit import audit_stores  # here, since Elasticsearch's client takes 0.7 s to load
    from sinks.sink import StoreTrouble

    columns = SpinnerColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("")

        def told(dataset: str, store: str, rows: int) -> None:
            progress.update(task, description=f"{dataset} in {store}: {rows:,} rows")

        try:
            with answered_by("Postgres", soon=False):
                return asyncio.run(audit_stores(settings, settle, told, repairing=repairing))
        except StoreTrouble as error:
            fail(f"Elasticsearch can't be compared: {error}; `headrace status` says why")


def _print_deep_audit(audited: "DeepAudit") -> None:
    """Print the comparison before the repair, the repair, and the comparison after it."""
    if audited.found:
        _print_stores(audited.found)
        for one in audited.repairs:
            stdout.print(
                f"repair of {one.dataset}: {one.republished:,} rows published again, {one.renumbered:,} given a new "
                f"version, {one.deleted:,} deletes published"
            )
    for wrong in audited.miscounts:
        done = "; counted again" if audited.recounted else ""
        line = f"{wrong.dataset}: counted as {wrong.kept:,} rows, and there are {wrong.rows:,}{done}"
        stdout.print(line, markup=False)
    if not audited.stores:
        stdout.print("stores: no store follows Postgres: REDIS_URL and ELASTICSEARCH_URL are `none`")
        return
    _print_stores(audited.stores)


def _print_stores(results: Sequence["StoreAudit"]) -> None:
    """Print the comparison as a table, the first differing keys, and a verdict."""
    from services.audits.store_comparison import KINDS

    table = Table("DATASET", "STORE", "COMPARED", *(kind.upper() for kind in KINDS), "IN FLIGHT", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for one in results:
        numbers = (one.compared, *one.counts().values(), one.in_flight)
        table.add_row(one.dataset, one.store, *(f"{number:,}" for number in numbers))
    stdout.print(table)
    for one in results:
        for key, kind in list(one.differences.items())[:SHOWN_KEYS]:
            stdout.print(f"{one.dataset} {key}: {kind} in {one.store}", markup=False)
        if one.cut_short:
            stdout.print(f"{one.dataset} in {one.store}: too many differences, more may follow", markup=False)
    differing = sum(len(one.differences) for one in results)
    in_flight = sum(one.in_flight for one in results)
    verdict = "all follow Postgres" if all(one.clean for one in results) else f"{differing:,} DIFFER"
    stdout.print(f"stores: {verdict}; {in_flight:,} in flight")
