"""How a JSON API is paged through, and how one page of it is read without touching its records."""

import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

MOST_RECORDS = 1_000_000
"""In one page. A record of two bytes takes sixty in memory: so a page of 64 MiB might take 4 GB."""

# Whole strings, and what gives a page its shape. Without backtracking, which would remember every character.
_SHAPE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)

Name = Annotated[str, Field(min_length=1)]


class InvalidPage(ValueError):
    """The body is no page in the declared style; the message says what is wrong with it."""


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
        """The records of a page, byte for byte. Raises InvalidPage."""
        if body.count(b",") > MOST_RECORDS and _has_too_many_members(body):
            raise InvalidPage(f"it has more than {MOST_RECORDS:,} records or members; ask for smaller pages")
        if self.style == "array" or (self.style == "none" and body.lstrip()[:1] == b"["):
            return PageContent([bytes(record) for record in _decode(body, list[msgspec.Raw])], None)
        page = _decode(body, dict[str, msgspec.Raw])
        if self.data_field not in page:
            members = ", ".join(sorted(page)[:10]) or "none"
            raise InvalidPage(f"no member {self.data_field!r} (it has: {members}); set pagination.data_field")
        records = _decode(page[self.data_field], list[msgspec.Raw], f"its member {self.data_field!r}")
        total = _decode(page.get(self.total_pages_field, msgspec.Raw(b"null")), int | None, self.total_pages_field)
        return PageContent([bytes(record) for record in records], total)


def _has_too_many_members(body: bytes) -> bool:
    """Whether there are over MOST_RECORDS commas between records, or members of the envelope. Reads no further."""
    level = 1 if body.lstrip()[:1] == b"[" else 2
    depth = commas = 0
    for piece in _SHAPE.finditer(body):
        shape = piece[0]
        if shape in {b"[", b"{"}:
            depth += 1
        elif shape in {b"]", b"}"}:
            depth -= 1
        elif shape == b"," and depth <= level:
            commas += 1
            if commas > MOST_RECORDS:
                return True
    return False


def _decode(body: bytes | msgspec.Raw, wanted: Any, what: str = "the body") -> Any:
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPage(f"{what} is not what was expected: {error}; it begins with {bytes(body)[:60]!r}") from error
