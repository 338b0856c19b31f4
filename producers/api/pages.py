"""The pages of an API: asked for in order and several at a time, taken apart without touching their records."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal, NamedTuple

import msgspec
import structlog
from pydantic import BaseModel, ConfigDict, Field

from producers.api.sent_records import SentRecords
from producers.http.fetch import Fetcher, Refused
from producers.http.headers import conditions, validators
from producers.json_parts import NotSplit, OtherShape, elements, members
from producers.raw_records import LARGEST_VALUE_BYTES
from producers.record_key import JsonRecordKey
from producers.source import SourceFailed, SourceRecord
from runtime.server_addresses import without_secrets
from schemas.errors import HOSTILE
from schemas.text import unmarked

log = structlog.get_logger()

LARGE_PAGE_BYTES = 1_048_576
"""A larger page is read in a thread, so that others have their turn meanwhile."""

MOST_EMPTY_PAGES = 100
"""In a row, within the total: some servers filter a page after they have cut it. With more the total is no total."""

NO_SUCH_PAGE = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
"""Answers behind the last page. To the first page they are errors, like any other status to any page."""

_NULL = b"null"

Name = Annotated[str, Field(min_length=1)]


class PageContent(NamedTuple):
    """Records of one page as the server wrote them. `total_pages` is None where the server does not say."""

    records: list[bytes]
    total_pages: int | None


class Pagination(BaseModel):
    """The `pagination` table of an API source.

    Styles: `envelope`, an object `{data: […], total_pages: n}`; `array`, a plain array per page, read until an empty
    page; `none`, one request that answers with an array or an envelope.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["envelope", "array", "none"] = "envelope"
    page_parameter: Name | None = None
    """By default `page`, or `_page` in the style `array`."""
    limit_parameter: Name | None = None
    """By default `limit`, or `_limit` in the style `array`."""
    first_page: Annotated[int, Field(ge=0)] = 1
    data_field: Name = "data"
    total_pages_field: Name = "total_pages"

    def parameters(self, page: int, size: int) -> dict[str, str]:
        """The query parameters of the request for a page."""
        if self.style == "none":
            return {}
        underscore = "_" if self.style == "array" else ""
        return {
            self.page_parameter or f"{underscore}page": str(page),
            self.limit_parameter or f"{underscore}limit": str(size),
        }

    def read(self, body: bytes) -> PageContent:
        """The records of a page, byte for byte; one that is no JSON is among them. Raises NotSplit."""
        body = unmarked(body)
        if self.style == "array" or (self.style == "none" and body.lstrip()[:1] in {b"[", b"n"}):
            return PageContent(_records(body, "the body"), None)
        try:
            page = members(body)
        except NotSplit as error:
            raise _invalid(error, "the body", body) from error
        if self.data_field not in page:
            names = ", ".join(sorted(page)[:10]) or "none"
            raise OtherShape(f"no member {self.data_field!r} (it has: {names}); set pagination.data_field")
        records = _records(page[self.data_field], f"its member {self.data_field!r}")
        total = page.get(self.total_pages_field, _NULL)
        try:
            pages = msgspec.json.decode(total, type=int | None, strict=False)
            return PageContent(records, pages if pages and pages > 0 else None)
        except HOSTILE as error:
            raise OtherShape(f"{self.total_pages_field} is not what was expected: {total[:60]!r}") from error


NOTHING = PageContent([], None)


class ApiPage(NamedTuple):
    """A page as the server answered it; `content` is None where it is what it was (304).

    `refusal`: the server says that it has no such page. `unreadable`: why the page's bytes stand for its records.
    """

    number: int
    content: PageContent | None
    etag: str | None = None
    last_modified: str | None = None
    refusal: Refused | None = None
    unreadable: str | None = None

    def records(self, key: JsonRecordKey) -> list[SourceRecord]:
        """As they are to be published."""
        found = (self.content or NOTHING).records
        if self.unreadable is None:
            return [SourceRecord(record, key.of(record)) for record in found]
        return [SourceRecord(page, None, f"unreadable_page;{self.unreadable}") for page in found]

    def total_pages(self, known: int | None) -> int | None:
        """The number of pages, `known` where this one cannot say."""
        return known if self.content is None or self.unreadable else self.content.total_pages


@dataclass(frozen=True)
class ApiPages:
    """The pages behind an address, for one run of a source."""

    source: str
    fetcher: Fetcher
    url: str
    pagination: Pagination
    page_size: int
    concurrency: int

    async def read(self, start: int, sent: SentRecords, total: int | None = None) -> AsyncGenerator[ApiPage]:
        """Non-empty pages in order from `start` on, on condition that they are not those that were sent.

        `total` is the number of pages as far as it is known: a page that is what it was does not say it.
        Raises SourceFailed; for pages that cannot be read when all others have been.
        """
        first, style = self.pagination.first_page, self.pagination.style
        number, before, empty = start + 1, None, 0
        marked: ApiPage | None = None  # at 1, 2, 4, 8, … pages, so that a circle of any length comes back to one
        unreadable: list[ApiPage] = []
        in_flight = deque([asyncio.create_task(self.page(start, sent))])
        try:
            while in_flight:
                page = await in_flight.popleft()
                if page.content is None and not sent.still_holds(page.number):
                    # The page is what it was, but one of its records was sent with another content since.
                    page = await self.page(page.number, SentRecords())
                if page.refusal and total is not None and page.number < first + total:
                    raise self._failed(f"{page.refusal.reason}; it is page {page.number} of {total}")
                if page.content is not None and not page.content.records:
                    empty += 1
                    total = page.content.total_pages or total
                    if total is None or page.number >= first + total - 1:
                        break
                    if empty > MOST_EMPTY_PAGES:
                        log.warning("pages_are_empty", source=self.source, page=page.number, total_pages=total)
                        break
                else:
                    if _has_same_records(page, before) or (total is None and _has_same_records(page, marked)):
                        raise self._failed(
                            f"{self.url} answers with the same page again and again: set the names that it understands "
                            'in `pagination` (page_parameter, limit_parameter), or `style = "none"` if it has no pages'
                        )
                    yield page
                    total, empty = page.total_pages(total), 0
                    if page.unreadable:
                        unreadable.append(page)
                        if total is None and (before is None or before.unreadable):
                            break  # it may go on like this for ever
                    before = page
                    read = page.number - start + 1
                    if read & (read - 1) == 0:
                        marked = page
                if style == "none":
                    break
                last = None if total is None else first + total - 1
                while len(in_flight) < self.concurrency and (last is None or number <= last):
                    in_flight.append(asyncio.create_task(self.page(number, sent)))
                    number += 1
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)
        if unreadable:
            raise self._failed(
                f"{len(unreadable)} of its pages cannot be taken apart into records, so each is a failure; the first: "
                f"{unreadable[0].unreadable}"
            )

    async def page(self, number: int, sent: SentRecords) -> ApiPage:
        """One page, on condition that it is not the one that was sent. Raises SourceFailed."""
        parameters = self.pagination.parameters(number, self.page_size)
        known = sent.page(number)
        first = number == self.pagination.first_page
        try:
            answer = await self.fetcher.get(self.url, parameters, None if known is None else conditions(known))
        except Refused as refusal:
            if first or refusal.status not in NO_SUCH_PAGE:
                raise
            return ApiPage(number, NOTHING, refusal=refusal)
        if answer.status_code == HTTPStatus.NOT_MODIFIED:
            return ApiPage(number, None)
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return ApiPage(number, NOTHING)
        body, read = answer.content, self.pagination.read
        try:
            content = await asyncio.to_thread(read, body) if len(body) > LARGE_PAGE_BYTES else read(body)
        except NotSplit as error:
            reason = without_secrets(f"{answer.url}: {error}")
            if first and isinstance(error, OtherShape):
                raise self._failed(reason) from error
            return ApiPage(number, PageContent([body[:LARGEST_VALUE_BYTES]], None), unreadable=reason)
        return ApiPage(number, content, *validators(answer.headers))

    def _failed(self, reason: str) -> SourceFailed:
        return SourceFailed(self.source, reason)


def _has_same_records(page: ApiPage, earlier: ApiPage | None) -> bool:
    return bool(page.content and earlier and earlier.content and page.content.records == earlier.content.records)


def _records(body: bytes, what: str) -> list[bytes]:
    if body.strip() == _NULL:  # an empty list, as many servers write it
        return []
    try:
        return elements(body)
    except NotSplit as error:
        raise _invalid(error, what, body) from error


def _invalid(error: NotSplit, what: str, body: bytes) -> NotSplit:
    return type(error)(f"{what} is not what was expected: {error}; it begins with {body[:60]!r}")
