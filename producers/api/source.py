"""The kind `api`: a JSON API read page by page, several pages at a time, in order."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field, SecretStr

from producers.api.pages import ApiPage, ApiPages, Pagination
from producers.api.sent_records import SentRecords
from producers.block import HttpBlock
from producers.http.fetch import NotAnswered, open_fetcher
from producers.record_key import JsonRecordKey
from producers.source import SourceBatch, SourceDescription, SourceFailed
from runtime.egress import Egress
from runtime.settings import Settings
from stores.checkpoints import Position

log = structlog.get_logger()


class ApiBlock(HttpBlock):
    """A block of kind `api`."""

    kind: Literal["api"]
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    pagination: Pagination = Pagination()

    def build(self, name: str, settings: Settings, folder: Path) -> "ApiSource":  # noqa: ARG002 (a kind with files needs it)
        key = settings.api_key if self.api_key else None
        return ApiSource(self.describe(name), self, Egress.of(settings), key, settings.checkpoint_records)


@dataclass(frozen=True)
class ApiSource:
    """A paged JSON API; implements ResumableSource.

    Page numbers shift when records are inserted or deleted while they are read: such a run may repeat or miss records
    at page borders, and the next run brings them. Each page says how many there are. They end there, at
    an empty page, or where the server says behind a good page that it has no more. A page that cannot be taken apart is
    sent as one unreadable record; the others are read all the same before SourceFailed is raised.

    Resuming after a run that ended asks for every page again, on condition that it changed, and sends the records
    whose content is another than the one sent last. After a run that was interrupted it begins at the page after the
    last confirmed one; a run that failed by what the source answered was none, or it would never look at the first
    pages again while that lasts. Of `remembered` records the content is known; others are sent each time.
    """

    description: SourceDescription
    block: ApiBlock
    egress: Egress
    api_key: SecretStr | None = None
    remembered: int = 500_000

    @property
    def scope(self) -> str:
        block = self.block
        return f"{block.url} {block.page_size} {block.api_key} {block.pagination.model_dump_json()}"

    async def batches(self) -> AsyncIterator[SourceBatch]:
        key = JsonRecordKey(self.description)
        total: int | None = None
        async with self._pages() as api, aclosing(api.read(self._first, SentRecords())) as pages:
            async for page in pages:
                total = page.total_pages(total)
                yield SourceBatch(page.records(key), self._done(page.number, total))

    async def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        key = JsonRecordKey(self.description)
        at = since.at or {} if since else {}
        sent = SentRecords(since.pages if since else (), self.remembered)
        total: int | None = at.get("total_pages")
        whole = at.get("complete", True) or self.block.pagination.style == "none"
        start = self._first if whole else at["page"] + 1
        last = start - 1
        try:
            async with self._pages() as api:
                if start == self._first or total is None or start < self._first + total:
                    log.info("api_read", source=api.source, from_page=start, interrupted=start != self._first)
                    async with aclosing(api.read(start, sent, total)) as pages:
                        async for page in pages:
                            last, total = page.number, page.total_pages(total)
                            at = {"page": last, "total_pages": total, "complete": False}
                            yield self._compared(page, sent, key, Position(at))
        except SourceFailed as failure:
            if not isinstance(failure, NotAnswered) or last < start:
                yield SourceBatch([], None, Position({**at, "complete": True}))
            raise
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

    def _compared(self, page: ApiPage, sent: SentRecords, key: JsonRecordKey, position: Position) -> SourceBatch:
        at = position.at or {}
        done = self._done(page.number, at["total_pages"])
        if page.content is None:
            return SourceBatch([], done, position, unchanged=sent.count(page.number))
        found = sent.compare(page.number, page.records(key), page.etag, page.last_modified)
        kept = () if found.page is None else (found.page,)
        before = None if found.revoked is None else Position(None, (found.revoked,))
        return SourceBatch(found.changed, done, Position(at, kept), before, found.unchanged)

    @asynccontextmanager
    async def _pages(self) -> AsyncIterator[ApiPages]:
        name, block = self.description.name, self.block
        async with open_fetcher(name, block.url, block, self.egress, "application/json", self.api_key) as fetcher:
            yield ApiPages(name, fetcher, block.url, block.pagination, block.page_size, block.concurrency)
