"""The kind `api`: a JSON API read page by page, several pages at a time, in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import structlog
from pydantic import Field, SecretStr

from producers.http_block import HttpBlock
from producers.http_conditions import conditions, validators
from producers.http_fetch import Fetcher, open_fetcher
from producers.pagination import InvalidPage, PageContent, Pagination
from producers.record_key import JsonRecordKey
from producers.sent_records import SentRecords
from producers.source import SourceBatch, SourceDescription, SourceFailed, SourceRecord
from runtime.checkpoints import Position
from runtime.settings import Settings

log = structlog.get_logger()

LARGE_PAGE_BYTES = 1_048_576
"""A larger page is read in a thread, so that others have their turn meanwhile."""

_NOTHING = PageContent([], None)


class ApiBlock(HttpBlock):
    """A block of kind `api`."""

    kind: Literal["api"]
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    pagination: Pagination = Pagination()

    def build(self, name: str, settings: Settings, folder: Path) -> "ApiSource":  # noqa: ARG002 (a kind with files needs it)
        key = settings.api_key if self.api_key else None
        return ApiSource(self.describe(name), self, key, settings.checkpoint_records)


class _Answer(NamedTuple):
    """A page as the server answered it; `content` is None where it is what it was (304)."""

    number: int
    content: PageContent | None
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True)
class ApiSource:
    """A paged JSON API; implements ResumableSource.

    Page numbers shift when records are inserted or deleted while they are read: such a run may repeat or miss records
    at page borders, and the next run brings them. The number of pages is taken anew from each page.

    Resuming after a run that ended asks for every page again, on condition that it changed, and sends the records
    whose content is another than the one sent last; after a run that was interrupted it begins at the page after the
    last confirmed one. Of `remembered` records the content is known; others are sent each time.
    """

    description: SourceDescription
    block: ApiBlock
    api_key: SecretStr | None = None
    remembered: int = 500_000

    @property
    def content_type(self) -> str:
        return "application/json"

    @property
    def scope(self) -> str:
        block = self.block
        return f"{block.url} {block.page_size} {block.api_key} {block.pagination.model_dump_json()}"

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """One batch per page. Implements Source.batches."""
        key = JsonRecordKey(self.description)
        async with self._fetcher() as fetcher, aclosing(self._answers(fetcher, self._first, None, None)) as answers:
            async for answer in answers:
                content = answer.content or _NOTHING
                records = [SourceRecord(record, key.of(record)) for record in content.records]
                yield SourceBatch(records, self._done(answer.number, content.total_pages))

    async def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        """One batch per page, of the records that changed. Implements ResumableSource.resume."""
        key = JsonRecordKey(self.description)
        at = since.at or {} if since else {}
        sent = SentRecords(since.pages if since else (), self.remembered)
        total: int | None = at.get("total_pages")
        whole = at.get("complete", True) or self.block.pagination.style == "none"
        start = self._first if whole else at["page"] + 1
        last = start - 1
        async with self._fetcher() as fetcher:
            if start == self._first or total is None or start < self._first + total:
                log.info("api_read", source=self.description.name, from_page=start, interrupted=start != self._first)
                async with aclosing(self._answers(fetcher, start, sent, total)) as answers:
                    async for given in answers:
                        # The page is what it was, but one of its records was sent with another content since.
                        stale = given.content is None and not sent.still_holds(given.number)
                        answer = await self._page(fetcher, given.number, None) if stale else given
                        last = answer.number
                        if answer.content is not None:
                            total = answer.content.total_pages
                        at = {"page": last, "total_pages": total, "complete": False}
                        yield self._compared(answer, sent, key, Position(at))
        if sent.left_out:
            log.warning(
                "checkpoint_is_full",
                source=self.description.name,
                sent_in_every_run=sent.left_out,
                reason="see CHECKPOINT_RECORDS",
            )
        # What is no longer true of pages that this run has not seen is kept until one sees them.
        end = last + 1 if start == self._first else None
        yield SourceBatch([], 1.0, Position({**at, "complete": True}, end=end))

    @property
    def _first(self) -> int:
        return self.block.pagination.first_page

    def _done(self, number: int, total_pages: int | None) -> float | None:
        return min(1.0, (number - self._first + 1) / total_pages) if total_pages else None

    def _compared(self, answer: _Answer, sent: SentRecords, key: JsonRecordKey, position: Position) -> SourceBatch:
        at = position.at or {}
        done = self._done(answer.number, at["total_pages"])
        if answer.content is None:
            return SourceBatch([], done, position, unchanged=sent.count(answer.number))
        records = [SourceRecord(record, key.of(record)) for record in answer.content.records]
        found = sent.compare(answer.number, records, answer.etag, answer.last_modified)
        pages = () if found.page is None else (found.page,)
        before = None if found.revoked is None else Position(None, (found.revoked,))
        return SourceBatch(found.changed, done, Position(at, pages), before, found.unchanged)

    @asynccontextmanager
    async def _fetcher(self) -> AsyncIterator[Fetcher]:
        if self.block.api_key and self.api_key is None:
            raise SourceFailed(self.description.name, f"{self.block.url} wants a key and API_KEY is not set: set it")
        async with open_fetcher(self.description.name, self.block, "application/json", self.api_key) as fetcher:
            yield fetcher

    async def _answers(
        self, fetcher: Fetcher, start: int, sent: SentRecords | None, total: int | None
    ) -> AsyncGenerator[_Answer]:
        """Non-empty pages in order from `start` on, at most `concurrency` of them in flight.

        `total` is the number of pages as far as it is known: a page that is what it was does not say it.
        """
        block = self.block
        answer = await self._page(fetcher, start, sent)
        number = start + 1
        in_flight: deque[asyncio.Task[_Answer]] = deque()
        try:
            while answer.content is None or answer.content.records:
                yield answer
                if block.pagination.style == "none":
                    return
                if answer.content is not None:
                    total = answer.content.total_pages
                last = None if total is None else self._first + total - 1
                while len(in_flight) < block.concurrency and (last is None or number <= last):
                    in_flight.append(asyncio.create_task(self._page(fetcher, number, sent)))
                    number += 1
                if not in_flight:
                    return
                following = await in_flight.popleft()
                if answer.content and following.content and answer.content.records == following.content.records:
                    raise SourceFailed(
                        self.description.name,
                        f"{block.url} answers with the same page again and again: set the names that it understands in "
                        '`pagination` (page_parameter, limit_parameter), or `style = "none"` if it has no pages',
                    )
                answer = following
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _page(self, fetcher: Fetcher, number: int, sent: SentRecords | None) -> _Answer:
        """A page; unless `sent` is None, on condition that it is not the one that was sent."""
        parameters = self.block.pagination.parameters(number, self.block.page_size)
        page = None if sent is None else sent.page(number)
        response = await fetcher.get(self.block.url, parameters, None if page is None else conditions(page))
        if response.status_code == HTTPStatus.NOT_MODIFIED:
            return _Answer(number, None, None, None)
        try:
            if len(response.content) > LARGE_PAGE_BYTES:
                content = await asyncio.to_thread(self.block.pagination.read, response.content)
            else:
                content = self.block.pagination.read(response.content)
        except InvalidPage as error:
            raise SourceFailed(self.description.name, f"{response.url}: {error}") from error
        return _Answer(number, content, *validators(response.headers))
