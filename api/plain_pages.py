"""Pages that are asked for in the plainest way, without FastAPI's work on parameters: half of what a page costs us.

What is not written so (`page=2&limit=10`, `cursor=WyJh…&limit=100`) goes the general way, which alone refuses.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from fastapi import Request, Response

from api.parameters import MAX_LIMIT, StrictRoute
from api.record_pages import read_page
from schemas.dataset import Dataset

_PLACE = rb"(?:page=(?P<page>[1-9][0-9]{0,11})|cursor=(?P<cursor>[A-Za-z0-9_-]{1,2000}))?"
_PLAIN = re.compile(_PLACE + rb"(?:(?:^|&)limit=(?P<limit>[1-9][0-9]{0,2}))?")

USUAL_LIMIT = 10


class Asked(NamedTuple):
    """A page by its number, or one after a cursor."""

    page: int | None
    limit: int
    cursor: str | None


def plainly(query: bytes) -> Asked | None:
    """The page that a query asks for; None for one that is to be looked at in the general way. Pure."""
    found = _PLAIN.fullmatch(query)
    if found is None:
        return None
    page, cursor, limit = found["page"], found["cursor"], int(found["limit"] or USUAL_LIMIT)
    if limit > MAX_LIMIT:
        return None
    return Asked(None if page is None else int(page), limit, None if cursor is None else cursor.decode())


def plain_pages(dataset: Dataset) -> type[StrictRoute]:
    """The route of a dataset's pages."""

    class PlainPages(StrictRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def read(request: Request) -> Response:
                if asked := plainly(request.scope["query_string"]):
                    return await read_page(request.app.state.clients, dataset, *asked)
                return await handle(request)

            return read

    return PlainPages
