"""Answers as JSON, decimals as exact numbers and times in UTC; their entity tags; shapes of records in OpenAPI."""

import datetime
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from http import HTTPStatus
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec
from fastapi import Response
from pydantic import BaseModel, create_model

from schemas.dataset import Dataset

JSON = "application/json"

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """Compact JSON. `msgspec.Raw` parts pass through as they are."""
    return _encoder.encode(value)


def json_answer(value: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `value` as the body."""
    return Response(encode(value), status, headers, JSON)


def etag_of(content: bytes) -> str:
    """A weak entity tag (RFC 9110): compression changes the bytes, not the record."""
    return f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def names(if_none_match: str | None, etag: str) -> bool:
    """True if the header names the tag, in the weak comparison that If-None-Match asks for."""
    if if_none_match is None:
        return False
    given = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in given or etag.removeprefix("W/") in given


@cache
def served_model(dataset: Dataset) -> type[BaseModel]:
    """A record of the dataset with decimals as numbers, and when the row was made and last changed."""
    hints = get_type_hints(dataset.model)
    fields: dict[str, Any] = {"id": int} if dataset.serial_id else {}
    fields |= {field.name: _served(hints[field.name]) for field in dataset.fields}
    fields |= {"created_at": datetime.datetime, "updated_at": datetime.datetime | None}
    return create_model(f"Served{dataset.model.__name__}", __doc__=dataset.model.__doc__, **fields)


@cache
def page_model(dataset: Dataset, kind: str = "Page", *, by_cursor: bool = True) -> type[BaseModel]:
    """A page of records of the dataset; without cursors in the shape of `GET /data`."""
    last: dict[str, Any] = {"page": int, "page_size": int, "has_more": bool}
    if by_cursor:
        last = {"page": int | None, "limit": int, "total_pages": int, "next_cursor": str | None}
    fields: dict[str, Any] = {"data": list[served_model(dataset)], "total": int, **last}  # type: ignore[misc]
    return create_model(f"{dataset.model.__name__}{kind}", **fields)


def _served(hint: Any) -> Any:
    kinds = [float if kind is Decimal else kind for kind in get_args(hint) or (hint,)]
    return kinds[0] | None if NoneType in kinds else kinds[0]
