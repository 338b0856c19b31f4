"""ASGI middleware: no request is larger than what it is for, so that reading one holds nobody up."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, problem_body

LONGEST_ADDRESS = 49_152
"""Bytes of path and query together."""

LONGEST_BODY = 65_536
"""Bytes of a body, where nothing else is said."""

LONGER_BODIES = (("/failures/", "/edit", 8 * 1_048_576), ("/failures/", "/retry", 1_048_576))
"""(beginning and end of a path, bytes): a whole payload as JSON text, and a thousand keys."""

OWN_BOUNDS = "/webhooks/"
"""Each webhook source has a bound of its own, see `max_bytes`."""


class BodyTooLarge(HTTPException):
    """Raised where the body is read, for one that is longer than the bound."""

    def __init__(self, longest: int) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {longest:,} bytes")


class RequestBounds:
    """Answers 414 or 413 to what is too long; a body without a length is cut off where it becomes too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > LONGEST_ADDRESS:
            status = HTTPStatus.REQUEST_URI_TOO_LONG
            detail = f"the address is longer than {LONGEST_ADDRESS:,} bytes; send fewer or shorter parameters"
            await _refusal(scope["path"], status, "address-too-long", detail)(scope, receive, send)
            return
        longest = longest_body(scope["path"])
        if longest is None:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdecimal() and int(declared[:20]) > longest:
            error = BodyTooLarge(longest)
            await _refusal(scope["path"], error.status_code, "body-too-large", error.detail)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, longest), send)


def longest_body(path: str) -> int | None:
    """The bound for a path in bytes; None where the endpoint has one of its own. Pure."""
    if path.startswith(OWN_BOUNDS):
        return None
    found = (most for begins, ends, most in LONGER_BODIES if path.startswith(begins) and path.endswith(ends))
    return next(found, LONGEST_BODY)


def _bounded(receive: Receive, longest: int) -> Receive:
    held = 0

    async def receive_some() -> Message:
        nonlocal held
        message = await receive()
        if message["type"] == "http.request":
            held += len(message.get("body", b""))
            if held > longest:
                raise BodyTooLarge(longest)
        return message

    return receive_some


def _refusal(path: str, status: int, code: str, detail: str) -> Response:
    # The rest of the request is not read.
    return Response(problem_body(status, code, detail, path[:200]), status, {"connection": "close"}, MEDIA_TYPE)
