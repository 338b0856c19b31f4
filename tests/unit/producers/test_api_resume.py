"""Whatever dies when, and whatever the source does meanwhile: after two quiet runs the topic has the source's state."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import msgspec
from hypothesis import given, reject
from hypothesis import strategies as st

from producers.api.pages import ApiPage, ApiPages, PageContent, Pagination
from producers.api.sent_records import SentRecords
from producers.api.source import ApiBlock, ApiSource
from producers.checkpointing import ConfirmedPositions, SentBatch
from producers.http.fetch import Fetcher, NotAnswered
from producers.source import SourceBatch, SourceFailed
from runtime.egress import Egress
from tests.unit.producers.durable_checkpoint import Durable

SIZE = 3


@dataclass
class Server:
    """A list of (key, content), in pages; `etags` as real servers make them: equal for equal bytes."""

    rows: list[tuple[int, int]]
    etags: bool = True
    restless: random.Random | None = None
    answered: Counter[str] = field(default_factory=Counter)

    def page(self, number: int) -> list[bytes]:
        rows = self.rows[(number - 1) * SIZE : number * SIZE]
        return [msgspec.json.encode({"id": key, "x": content}) for key, content in rows]

    @property
    def pages(self) -> int:
        return -(-len(self.rows) // SIZE)


@dataclass(frozen=True)
class ScriptedPages(ApiPages):
    """The real reader of pages, on a server without sockets."""

    server: Server

    async def page(self, number: int, sent: SentRecords | None) -> ApiPage:
        if self.server.restless is not None:
            if self.server.restless.random() < 0.05:
                change(self.server, self.server.restless)
            if self.server.restless.random() < 0.04:
                raise self.server.restless.choice([SourceFailed, NotAnswered])("shop", "trouble")
        records = self.server.page(number)
        etag = f"{self.server.pages} {b''.join(records)!r}" if self.server.etags else None
        known = sent.page(number) if sent is not None else None
        if known is not None and known.etag is not None and known.etag == etag:
            self.server.answered["unchanged"] += 1
            return ApiPage(number, None)
        self.server.answered["whole"] += 1
        return ApiPage(number, PageContent(records, self.server.pages), etag)


class ScriptedApi(ApiSource):
    """The real source on such pages."""

    server: Server

    @asynccontextmanager
    async def _pages(self) -> AsyncIterator[ApiPages]:
        yield ScriptedPages("shop", cast("Fetcher", None), self.block.url, Pagination(), SIZE, 4, self.server)


def source(server: Server, most: int = 1000) -> ScriptedApi:
    block = ApiBlock.model_validate(
        {"kind": "api", "url": "http://x/y", "dataset": "records", "page_size": SIZE, "map": {"source_id": "id"}}
    )
    api = ScriptedApi(block.describe("shop"), block, Egress(), None, most)
    object.__setattr__(api, "server", server)
    return api


async def run(api: ApiSource, durable: Durable, rnd: random.Random | None = None) -> int:
    """One run. With `rnd` it may die anywhere, confirmations come late, and saves are lost; returns what it sent."""
    positions, open_batches, before = ConfirmedPositions(), list[SentBatch](), len(durable.sent)
    failure: SourceFailed | None = None

    async def batches() -> AsyncIterator[SourceBatch]:
        nonlocal failure
        try:
            async for batch in api.resume(durable.position()):
                yield batch
        except SourceFailed as error:
            failure = error

    async for batch in batches():
        if batch.before is not None:
            positions.revoke(batch.before.pages)
            durable.save(batch.before)
        sent = positions.sending(batch)
        if rnd is not None and rnd.random() < 0.1:
            durable.sent += batch.records[: rnd.randint(0, len(batch.records))]
            return len(durable.sent) - before
        durable.sent += batch.records
        open_batches.append(sent)
        if rnd is None or rnd.random() < 0.6:
            for waiting in open_batches:
                while waiting.left:
                    waiting.confirmed()
            open_batches.clear()
        if (rnd is None or rnd.random() < 0.7) and (position := positions.take()):
            if rnd is not None and rnd.random() < 0.2:
                positions.put_back(position)
            else:
                durable.save(position)
    if position := positions.take():
        durable.save(position)
    if failure is not None:
        raise failure
    return len(durable.sent) - before


def change(server: Server, rnd: random.Random) -> None:
    """Few contents, so that they often go back to what they were; keys may repeat."""
    for _ in range(rnd.randint(0, 4)):
        at = rnd.randint(0, len(server.rows))
        match rnd.randint(0, 3):
            case 0 if at < len(server.rows):
                server.rows[at] = (server.rows[at][0], rnd.randint(0, 1))
            case 1 if at < len(server.rows):
                del server.rows[at]
            case 2:
                server.rows.insert(at, (rnd.randint(0, 12), rnd.randint(0, 1)))
            case _:
                rnd.shuffle(server.rows)


@given(seed=st.integers(0, 2**32), etags=st.booleans(), most=st.sampled_from([0, 5, 1000]))
def test_after_any_crashes_and_changes_two_undisturbed_runs_bring_the_state_of_the_source(
    seed: int, etags: bool, most: int
) -> None:
    rnd = random.Random(seed)
    server = Server([(key, 0) for key in range(rnd.randint(0, 12))], etags, rnd)
    durable, api = Durable(), source(server, most)

    async def history() -> None:
        for _ in range(rnd.randint(1, 8)):
            with suppress(SourceFailed):
                await run(api, durable, rnd)
            change(server, rnd)
        server.restless = None
        await run(api, durable)
        await run(api, durable)

    try:
        asyncio.run(history())
    except SourceFailed:  # two pages with the same records in them
        reject()
    expected = {f"shop:{key}": msgspec.json.encode({"id": key, "x": content}) for key, content in server.rows}
    assert {key: durable.state.get(key) for key in expected} == expected


def test_a_run_after_a_complete_one_sends_only_changed_records() -> None:
    server = Server([(key, 0) for key in range(20)])
    durable, api = Durable(), source(server)
    assert asyncio.run(run(api, durable)) == 20
    server.answered.clear()
    assert asyncio.run(run(api, durable)) == 0
    assert server.answered == {"unchanged": 7}
    server.rows[10] = (10, 1)
    assert asyncio.run(run(api, durable)) == 1
    server.rows.insert(0, (99, 0))  # every page shifts
    assert asyncio.run(run(api, durable)) == 1
    del server.rows[5]
    assert asyncio.run(run(api, durable)) == 0


def test_without_entity_tags_every_page_is_read_and_only_what_changed_is_sent() -> None:
    server = Server([(key, 0) for key in range(20)], etags=False)
    durable, api = Durable(), source(server)
    asyncio.run(run(api, durable))
    server.rows[3] = (3, 1)
    server.answered.clear()
    assert asyncio.run(run(api, durable)) == 1
    assert server.answered == {"whole": 7}


def test_remembered_records_are_bounded_and_the_others_are_sent_in_every_run() -> None:
    server = Server([(key, 0) for key in range(20)])
    durable, api = Durable(), source(server, most=8)
    asyncio.run(run(api, durable))
    assert sum(len(page.records) for page in durable.pages) == 8 * 16
    assert asyncio.run(run(api, durable)) == 12


def test_an_interrupted_run_goes_on_after_the_last_confirmed_page() -> None:
    server = Server([(key, 0) for key in range(20)])
    durable, api = Durable(), source(server)
    asyncio.run(run(api, durable))
    durable.at = {"page": 5, "total_pages": 7, "complete": False}
    server.answered.clear()
    asyncio.run(run(api, durable))
    assert server.answered == {"unchanged": 2}


def test_an_interrupted_run_that_had_confirmed_the_last_page_asks_for_none() -> None:
    server = Server([(key, 0) for key in range(20)])
    durable, api = Durable(), source(server)
    asyncio.run(run(api, durable))
    durable.at = {"page": 7, "total_pages": 7, "complete": False}
    server.answered.clear()
    asyncio.run(run(api, durable))
    assert (server.answered, durable.at["complete"]) == ({}, True)
