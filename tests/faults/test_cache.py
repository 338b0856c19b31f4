"""Readers hammer a hundred hot keys while they change: nobody is served an older version than one already seen."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from runtime.settings import Settings
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.scale import scale
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import Sent, customer, encoded
from tests.processes import WORKERS, Pipeline
from tests.waiting import eventually_async

HOT_KEYS = [f"C{number:06}" for number in range(100)]
READERS = 16
UPDATES_PER_SECOND = 1_000.0


@dataclass
class Seen:
    """Answers that readers have got: per key the newest update, and the number of answers of each kind."""

    newest: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)


def updates() -> Iterator[Sent]:
    """Each names, in its first name, which update it is."""
    for number in itertools.count():
        key = HOT_KEYS[number % len(HOT_KEYS)]
        yield Sent(key.encode(), encoded(customer(key, number) | {"first_name": f"update {number}"}))


async def read(client: httpx.AsyncClient, seen: Seen, stopping: asyncio.Event, first: int) -> None:
    """One reader, round and round."""
    turn = first
    while not stopping.is_set():
        key = HOT_KEYS[turn % len(HOT_KEYS)]
        turn += 7
        before = seen.newest.get(key, -1)  # whoever saw it, saw it before this read begins
        answer = await client.get(f"/api/customers/{key}")
        use = answer.headers.get("x-cache", "none")
        seen.answers[use] = seen.answers.get(use, 0) + 1
        if answer.status_code == 404:
            number = -1
        else:
            answer.raise_for_status()
            number = int(answer.json()["first_name"].removeprefix("update "))
        if number < before:
            seen.stale.append(f"{key}: update {number} after {before} ({use})")
        seen.newest[key] = max(seen.newest.get(key, -1), number)


@asynccontextmanager
async def readers(url: str) -> AsyncIterator[Seen]:
    """Sixteen readers at work."""
    seen, stopping = Seen(), asyncio.Event()
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        tasks = [asyncio.create_task(read(client, seen, stopping, number)) for number in range(READERS)]
        try:
            yield seen
        finally:
            stopping.set()
            await asyncio.gather(*tasks)


async def test_no_reader_is_served_an_older_version_than_one_already_seen(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    count = scale().cache_updates
    with Pipeline(settings, tmp_path, (*WORKERS, "api")) as pipeline:
        async with readers(pipeline["api"].url) as seen:
            with load(settings, updates(), UPDATES_PER_SECOND) as running:

                async def enough() -> bool:
                    both = min(seen.answers.get(use, 0) for use in ("hit", "miss"))
                    return running.published >= count and both > count / 20

                await eventually_async(enough, what="enough updates, hits and misses", within=180)
                published = await asyncio.to_thread(running.stop)
            ended = time.monotonic()
            await asyncio.to_thread(wait_until_settled, settings)
            recovery = time.monotonic() - ended
        verdict = await asyncio.to_thread(verify, settings)
        async with httpx.AsyncClient(base_url=pipeline["api"].url, timeout=30, trust_env=False) as client:
            for number in range(published - len(HOT_KEYS), published):
                answer = await client.get(f"/api/customers/{HOT_KEYS[number % len(HOT_KEYS)]}")
                assert answer.json()["first_name"] == f"update {number}"
    assert verdict.records == published
    assert seen.stale == []
    reads = ", ".join(f"{number} {use}" for use, number in sorted(seen.answers.items()))
    fault = f"{READERS} readers on {len(HOT_KEYS)} keys that change"
    record_figure(
        Figure(fault, published, published, verdict.lost, verdict.double, recovery, f"0 stale reads of {reads}")
    )
