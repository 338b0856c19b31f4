"""The kind `api`: a JSON API read page by page, several pages at a time, in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import Field, SecretStr

from producers.http_block import HttpBlock
from producers.http_fetch import Fetcher
from producers.pagination import InvalidPage, PageContent, Pagination
from producers.record_key import JsonRecordKey
from producers.source import SourceBatch, SourceDescription, SourceFailed, SourceRecord
from runtime.settings import Settings


class ApiBlock(HttpBlock):
    """A block of kind `api`."""

    kind: Literal["api"]
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    pagination: Pagination = Pagination()

    def build(self, name: str, settings: Settings, folder: Path) -> "ApiSource":  # noqa: ARG002 (a kind with files needs it)
        return ApiSource(self.describe(name), self, settings.api_key if self.api_key else None)


@dataclass(frozen=True)
class ApiSource:
    """A paged JSON API; implements Source.

    Page numbers shift when records are inserted or deleted while they are read: such a run may repeat or miss records
    at page borders, and the next run brings them. The number of pages is taken anew from each page.
    """

    description: SourceDescription
    block: ApiBlock
    api_key: SecretStr | None = None

    @property
    def content_type(self) -> str:
        return "application/json"

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """One batch per page. Implements Source.batches."""
        if self.block.api_key and self.api_key is None:
            raise SourceFailed(self.description.name, f"{self.block.url} wants a key and API_KEY is not set: set it")
        key = JsonRecordKey(self.description)
        headers = {"Accept": "application/json", "User-Agent": "headrace"}
        if self.api_key is not None:
            headers["X-API-Key"] = self.api_key.get_secret_value()
        limits = httpx.Limits(max_connections=self.block.concurrency)
        async with httpx.AsyncClient(headers=headers, timeout=self.block.timeout_seconds, limits=limits) as client:
            fetcher = Fetcher(self.description.name, client, self.block)
            read = 0
            async for page in self._pages(fetcher):
                read += 1
                done = min(1.0, read / page.total_pages) if page.total_pages else None
                yield SourceBatch([SourceRecord(record, key.of(record)) for record in page.records], done)

    async def _pages(self, fetcher: Fetcher) -> AsyncIterator[PageContent]:
        """Non-empty pages in order, at most `concurrency` of them in flight."""
        block = self.block
        page = await self._page(fetcher, block.pagination.first_page)
        number = block.pagination.first_page + 1
        in_flight: deque[asyncio.Task[PageContent]] = deque()
        try:
            while page.records:
                yield page
                if block.pagination.style == "none":
                    return
                last = None if page.total_pages is None else block.pagination.first_page + page.total_pages - 1
                while len(in_flight) < block.concurrency and (last is None or number <= last):
                    in_flight.append(asyncio.create_task(self._page(fetcher, number)))
                    number += 1
                if not in_flight:
                    return
                following = await in_flight.popleft()
                if following.records and following.records == page.records:
                    raise SourceFailed(
                        self.description.name,
                        f"{block.url} answers with the same page again and again: set the names that it understands in "
                        '`pagination` (page_parameter, limit_parameter), or `style = "none"` if it has no pages',
                    )
                page = following
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _page(self, fetcher: Fetcher, number: int) -> PageContent:
        parameters = self.block.pagination.parameters(number, self.block.page_size)
        response = await fetcher.get(self.block.url, parameters)
        try:
            return self.block.pagination.read(response.content)
        except InvalidPage as error:
            raise SourceFailed(self.description.name, f"{response.url}: {error}") from error
