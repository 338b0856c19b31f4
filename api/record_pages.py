"""Pages of a dataset's records, by number or by cursor, in the mock server's shape."""

import base64
import binascii

import msgspec
from fastapi import Response
from sqlalchemy import ColumnElement

from api.answers import json_answer
from api.clients import Clients
from api.database import reading
from api.problems import bad_parameter
from api.queries.json_pages import json_slice
from api.queries.records import count, slice_after, slice_and_count
from schemas.dataset import Dataset

_key_decoder = msgspec.json.Decoder(list[str])


async def read_page(
    clients: Clients,
    dataset: Dataset,
    page: int | None,
    limit: int,
    cursor: str | None,
    *conditions: ColumnElement[bool],
) -> Response:
    """An answer of `{data, total, page, limit, total_pages, next_cursor}`; `page` is null in an answer to a cursor.

    Of the records that satisfy all conditions; past the last page `data` is empty. Raises ProblemAnswer for a wrong
    cursor, or one beside a page; Unavailable.
    """
    if cursor is not None and page is not None:
        raise bad_parameter("cursor", cursor, "give either page or cursor, not both")
    after = decode_cursor(cursor, len(dataset.key)) if cursor else ()
    if cursor is None:
        page = page or 1
    offset = ((page or 1) - 1) * limit
    if not conditions and (found := await json_slice(clients.engine, dataset, after, offset, limit)):
        return _answer(found.data, found.total, page, limit, found.last if found.more else None)
    async with reading(clients.engine) as connection:
        if cursor is not None:
            total = await count(connection, dataset, *conditions)
            part = await slice_after(connection, dataset, after, limit, *conditions)
        else:
            part, total = await slice_and_count(connection, dataset, offset, limit, *conditions)
    last = tuple(part.rows[-1][name] for name in dataset.key) if part.rows and part.more else None
    return _answer(part.rows, total, page, limit, last)


def _answer(data: object, total: int, page: int | None, limit: int, last: tuple[str, ...] | None) -> Response:
    return json_answer(
        {
            "data": data,
            "total": total,
            "page": page,
            "limit": limit,
            "total_pages": -(-total // limit),
            "next_cursor": encode_cursor(last) if last else None,
        }
    )


def encode_cursor(key: tuple[str, ...]) -> str:
    """The key of the last record seen as URL-safe text, opaque to callers."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(text: str, parts: int) -> tuple[str, ...]:
    """The key of `parts` parts. Raises ProblemAnswer."""
    try:
        packed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = _key_decoder.decode(packed)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise bad_parameter("cursor", text, "is not a cursor that this API gave") from None
    if len(key) != parts or any("\x00" in part for part in key):
        raise bad_parameter("cursor", text, "is a cursor of another list")
    return tuple(key)
