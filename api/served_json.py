"""Answers as JSON: decimals as exact numbers, times in UTC; and their entity tags."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import Response

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
