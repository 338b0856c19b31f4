"""Pages of a dataset's records, by number or by cursor, in the mock server's shape."""

from typing import Any

from sqlalchemy import ColumnElement

from api.clients import Clients
from api.cursor import InvalidCursor, decode_cursor, encode_cursor
from api.database import reading
from api.problems import bad_parameter
from api.queries.records import Slice, count, slice_after, slice_at
from api.served_json import encode
from schemas.dataset import Dataset


async def read_page(
    clients: Clients,
    dataset: Dataset,
    page: int | None,
    limit: int,
    cursor: str | None,
    *conditions: ColumnElement[bool],
) -> bytes:
    """`{data, total, page, limit, total_pages, next_cursor}` as JSON; `page` is null in an answer to a cursor.

    Of the records that satisfy all conditions; past the last page `data` is empty. Raises ProblemAnswer for a wrong
    cursor, or one beside a page; Unavailable.
    """
    if cursor is not None and page is not None:
        raise bad_parameter("cursor", cursor, "give either page or cursor, not both")
    after = _key_of(cursor, dataset) if cursor is not None else None
    async with reading(clients.engine) as connection:
        total = await count(connection, dataset, *conditions)
        if after is not None:
            part = await slice_after(connection, dataset, after, limit, *conditions)
        else:
            page = page or 1
            offset = (page - 1) * limit
            # Postgres would walk through the whole index to find nothing.
            part = (
                await slice_at(connection, dataset, offset, limit, *conditions)
                if offset < total
                else Slice([], more=False)
            )
    return encode(_answer(dataset, part, total, page, limit))


def _answer(dataset: Dataset, part: Slice, total: int, page: int | None, limit: int) -> dict[str, Any]:
    last = part.rows[-1] if part.rows else None
    return {
        "data": part.rows,
        "total": total,
        "page": page,
        "limit": limit,
        "total_pages": -(-total // limit),
        "next_cursor": encode_cursor(tuple(last[name] for name in dataset.key)) if last and part.more else None,
    }


def _key_of(cursor: str, dataset: Dataset) -> tuple[str, ...]:
    if not cursor:
        return ()
    try:
        return decode_cursor(cursor, len(dataset.key))
    except InvalidCursor as error:
        raise bad_parameter("cursor", cursor, str(error)) from None
