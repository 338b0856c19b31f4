"""Styles of paging through a JSON API; a page is taken apart without touching its records."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from producers.json_parts import NotSplit, OtherShape, elements, members
from schemas.errors import HOSTILE
from schemas.text import unmarked

_NULL = b"null"

Name = Annotated[str, Field(min_length=1)]


class InvalidPage(ValueError):
    """The body cannot be taken apart into records; the message says why."""


class OtherStyle(InvalidPage):
    """Nothing is wrong with it but that it is no page in the declared style."""


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
        """The records of a page, byte for byte; one that is no JSON is among them. Raises InvalidPage."""
        body = unmarked(body)
        if self.style == "array" or (self.style == "none" and body.lstrip()[:1] in {b"[", b"n"}):
            return PageContent(_records(body, "the body"), None)
        try:
            page = members(body)
        except NotSplit as error:
            raise _invalid(error, "the body", body) from error
        if self.data_field not in page:
            names = ", ".join(sorted(page)[:10]) or "none"
            raise OtherStyle(f"no member {self.data_field!r} (it has: {names}); set pagination.data_field")
        records = _records(page[self.data_field], f"its member {self.data_field!r}")
        total = page.get(self.total_pages_field, _NULL)
        try:
            pages = msgspec.json.decode(total, type=int | None, strict=False)
            return PageContent(records, pages if pages and pages > 0 else None)
        except HOSTILE as error:
            raise OtherStyle(f"{self.total_pages_field} is not what was expected: {total[:60]!r}") from error


def _records(body: bytes, what: str) -> list[bytes]:
    if body.strip() == _NULL:  # an empty list, as many servers write it
        return []
    try:
        return elements(body)
    except NotSplit as error:
        raise _invalid(error, what, body) from error


def _invalid(error: NotSplit, what: str, body: bytes) -> InvalidPage:
    kind = OtherStyle if isinstance(error, OtherShape) else InvalidPage
    return kind(f"{what} is not what was expected: {error}; it begins with {body[:60]!r}")
