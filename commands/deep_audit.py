"""`headrace audit --deep`: connects to the stores, shows progress, and prints what differs."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from sqlalchemy.ext.asyncio import create_async_engine

from commands.output import fail, stderr, stdout
from commands.store_repair import Difference, Repair, differences, repair
from commands.trouble import answered_by
from runtime.settings import Settings
from schemas.registry import all_datasets
from schemas.sinks import SINKS, load
from services.audits.caught_up import caught_up
from services.audits.deep_audit import KINDS, StoreAudit, audit_store, counts, deep_audit_json
from services.audits.store_versions import Rows
from sinks.held_versions import HeldVersions, StoreTrouble

SHOWN_KEYS = 10
"""Differing keys that are named per dataset and store; --json has them all."""


@dataclass
class DeepAudit:
    """How the stores are, and how they came to be so."""

    stores: list[StoreAudit]
    found: list[StoreAudit] = field(default_factory=list)
    """How they were before the repair; empty if nothing was to be repaired."""
    repairs: list[Repair] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """For scripts."""
        done = {"found": deep_audit_json(self.found)["stores"], "repairs": [asdict(one) for one in self.repairs]}
        return deep_audit_json(self.stores) | (done if self.found else {})


def deep_audit(settings: Settings, settle: float, *, repairing: bool) -> DeepAudit:
    """Compare every dataset in every store, and repair what differs if asked to.

    Exits with a message if a store does not answer.
    """
    try:
        with answered_by("Postgres", soon=False):
            return asyncio.run(_deep_audit(settings, settle, repairing=repairing))
    except StoreTrouble as error:
        fail(f"Elasticsearch can't be compared: {error}; `headrace status` says why")


def print_deep_audit(audited: DeepAudit) -> None:
    """What was found, what was done about it, and how it is now."""
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
    """The comparison as a table, the first differing keys, and a verdict."""
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


async def _deep_audit(settings: Settings, settle: float, *, repairing: bool) -> DeepAudit:
    result = DeepAudit(await _compare(settings, settle))
    tried: list[set[Difference]] = []
    while repairing and (differing := differences(result.stores)):
        result.found = result.found or result.stores
        # The first try keeps versions, the second does not; what differs after that is not ours to repair.
        if len(tried) > 1 and differing <= tried[-1] & tried[-2]:
            break
        done = await repair(settings, result.stores, differing & (tried[-1] if tried else set()))
        result.repairs += done
        tried.append(differing)
        result.stores = await _compare(settings, settle)
    return result


async def _compare(settings: Settings, settle: float) -> list[StoreAudit]:
    engine = create_async_engine(settings.async_database_url, pool_size=1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        stores: list[HeldVersions] = [
            await stack.enter_async_context(load(sink.versions).opened(settings))
            for sink in SINKS
            if sink.versions and sink.needs not in settings.absent_stores
        ]
        progress = stack.enter_context(
            Progress(SpinnerColumn(), TextColumn("{task.description}"), console=stderr, transient=True,
                     disable=not stderr.is_terminal)
        )  # fmt: skip
        results = []
        for dataset in all_datasets():
            for store in stores:
                task = progress.add_task(f"{dataset.name} in {store.name}")

                def told(rows: int, what: str = f"{dataset.name} in {store.name}", at: TaskID = task) -> None:
                    progress.update(at, description=f"{what}: {rows:,} rows")

                arrived = partial(caught_up, settings, engine, dataset, store.group)
                results.append(await audit_store(Rows(engine), store, dataset, arrived, settle, told))
                progress.remove_task(task)
    return results
