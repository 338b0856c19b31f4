"""`headrace audit --deep`: connects to the stores, shows progress, and prints what differs."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from elastic_transport import TransportError
from elasticsearch import ApiError, AsyncElasticsearch
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from commands.output import fail, stderr, stdout
from monitoring.deep_audit import KINDS, StoreAudit, audit_store, counts
from monitoring.store_versions import CacheEntries, Documents, Follower, Rows
from runtime.settings import Settings
from schemas.registry import all_datasets

SHOWN_KEYS = 10
"""Differing keys that are named per dataset and store; --json has them all."""

REQUEST_SECONDS = 60.0


def compare_stores(settings: Settings, settle: float) -> list[StoreAudit]:
    """Compare every dataset in every store. Exits with a message if a store does not answer."""
    try:
        return asyncio.run(_compare(settings, settle))
    except (ApiError, TransportError) as error:
        fail(f"Elasticsearch can't be compared: {error}; `headrace status` says why")
    except RedisError as error:
        fail(f"Redis can't be compared: {error}; `headrace status` says why")
    except (SQLAlchemyError, OSError) as error:
        fail(f"Postgres does not answer: {getattr(error, 'orig', None) or error}; `headrace status` says why")


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
    stdout.print(f"stores: {f'{differing:,} DIFFER' if differing else 'all follow Postgres'}")


async def _compare(settings: Settings, settle: float) -> list[StoreAudit]:
    engine = create_async_engine(settings.async_database_url, pool_size=1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        stores: list[Follower] = []
        if settings.elasticsearch_url:
            client = AsyncElasticsearch(settings.elasticsearch_url, request_timeout=REQUEST_SECONDS)
            stack.push_async_callback(client.close)
            stores.append(Documents(client, settings))
        redis = Redis.from_url(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        stores.append(CacheEntries(redis, settings))
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

                results.append(await audit_store(Rows(engine), store, dataset, settle, told))
                progress.remove_task(task)
    return results
