"""Contents of each store, asked of the store itself."""

from typing import Any

import asyncpg
import httpx

from runtime.settings import Settings
from tests.processes import PLAIN
from tests.servers.databases import run_async


def rows(settings: Settings, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows of a query."""

    async def fetch() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(settings.plain_database_url)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    return run_async(fetch())


def value(settings: Settings, query: str, *arguments: Any) -> Any:
    """The one value of a query."""
    return next(iter(rows(settings, query, *arguments)[0].values()))


def documents(settings: Settings, alias: str) -> int:
    """Number of documents under an alias of Elasticsearch, refreshed first."""
    url = f"{settings.elasticsearch_url}/{settings.named(alias)}"
    httpx.post(f"{url}/_refresh", timeout=30, trust_env=False, verify=PLAIN).raise_for_status()
    answer = httpx.get(f"{url}/_count", timeout=30, trust_env=False, verify=PLAIN).raise_for_status()
    count: int = answer.json()["count"]
    return count
