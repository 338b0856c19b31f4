"""Answers of the mock server: encoded JSON with an entity tag, and every refusal in one shape."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

ETAG_BYTES = 16

REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "`{error, message}`: what is wrong with the request"}
}
"""For the OpenAPI document of a router; it also keeps FastAPI from documenting a 422 that never comes."""


class Refusal(Exception):
    """A request that is answered with an error; `message` tells the caller what to change."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message


def tagged(request: Request, content: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON under a strong entity tag, or 304 if the caller's If-None-Match names that tag (RFC 9110)."""
    etag = f'"{hashlib.blake2b(content, digest_size=ETAG_BYTES).hexdigest()}"'
    all_headers = {"ETag": etag, **(headers or {})}
    if _names(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=all_headers)
    return Response(content, media_type="application/json", headers=all_headers)


def _names(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return "*" in candidates or etag in candidates


def refusal(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The one shape of an error: `{"error": code, "message": sentence}`."""
    return JSONResponse({"error": error, "message": message}, status_code=status, headers=headers)


async def answer_refusal(_: Request, error: Refusal) -> Response:
    """Exception handler for Refusal."""
    return refusal(error.status, error.error, error.message)


async def answer_http_exception(request: Request, error: HTTPException) -> Response:
    """Exception handler for what the router refuses: an unknown path, a method that a path does not take."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    return refusal(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}", error.headers)


async def answer_invalid_request(_: Request, error: RequestValidationError) -> Response:
    """Exception handler that turns FastAPI's 422 into 400 with a sentence per wrong parameter or field."""
    return refusal(400, "invalid_request", "; ".join(_sentence(problem) for problem in error.errors()))


def _sentence(problem: Mapping[str, Any]) -> str:
    location: Sequence[str | int] = problem["loc"]
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']}"
    name = ".".join(str(part) for part in location[1:]) or "the body"
    reason = str(problem["msg"])
    if problem["type"] == "missing":
        return f"{name}: {reason}"
    return f"{name}={_shortened(problem['input'])}: {reason}"


def _shortened(value: object, longest: int = 80) -> str:
    shown = repr(value)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
