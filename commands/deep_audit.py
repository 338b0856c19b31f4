"""`headrace audit --deep`: shows progress, and prints what differs."""

import asyncio
from collections.abc import Sequence

from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from commands.output import fail, stderr, stdout
from commands.trouble import answered_by
from runtime.settings import Settings
from services.audits.deep_audit import KINDS, StoreAudit, counts
from services.audits.stores import DeepAudit, audit_stores
from sinks.sink import StoreTrouble

SHOWN_KEYS = 10
"""Differing keys that are named per dataset and store; --json has them all."""


def deep_audit(settings: Settings, settle: float, *, repairing: bool) -> DeepAudit:
    """Compare every dataset in every store, and repair what differs if asked to.

    Exits with a message if a store does not answer.
    """
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


def print_deep_audit(audited: DeepAudit) -> None:
    """Print the comparison before the repair, the repair, and the comparison after it."""
    if audited.found:
        print_stores(audited.found)
        for one in audited.repairs:
            stdout.print(
                f"repair of {one.dataset}: {one.republished:,} rows published again, {one.renumbered:,} given a new "
                f"version, {one.deleted:,} deletes published"
            )
    if not audited.stores:
        stdout.print("stores: no store follows Postgres: REDIS_URL and ELASTICSEARCH_URL are `none`")
        return
    print_stores(audited.stores)


def print_stores(results: Sequence[StoreAudit]) -> None:
    """Print the comparison as a table, the first differing keys, and a verdict."""
    table = Table("DATASET", "STORE", "COMPARED", *(kind.upper() for kind in KINDS), "IN FLIGHT", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for one in results:
        numbers = (one.compared, *counts(one).values(), one.in_flight)
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
