"""Reads every customer through the API and compares the answers with the oracle."""

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx

from tests.faults.oracle import Content, Oracle
from tests.faults.verify import assert_rows

READERS = 16


def verify_reads(url: str, oracle: Oracle) -> Counter[str]:
    """Fail the test unless the API answers with the oracle's rows, and 404 for what is deleted.

    Reads every key once, which fills the cache too. Returns how many answers came from where (`x-cache`).
    """
    found, sources = asyncio.run(_read_all(url, [*oracle.rows(), *oracle.deleted()]))
    assert_rows("the API", oracle.rows(), found)
    return sources


async def _read_all(url: str, keys: list[str]) -> tuple[dict[str, Content], Counter[str]]:
    found: dict[str, Content] = {}
    sources: Counter[str] = Counter()
    waiting = iter(keys)

    async def read(client: httpx.AsyncClient) -> None:
        for key in waiting:
            answer = await client.get(f"/api/customers/{key}")
            sources[answer.headers.get("x-cache", "none")] += 1
            if answer.status_code != httpx.codes.NOT_FOUND:
                answer.raise_for_status()
                content: dict[str, Any] = answer.json(parse_float=Decimal)
                found[key] = content

    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        await asyncio.gather(*(read(client) for _ in range(READERS)))
    return found, sources
