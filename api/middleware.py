"""ASGI middleware around everything: bounds of requests, their ids, access log, Server-Timing, and unexpected errors.

Pure ASGI: no task or queue per request.
"""

import re
import time
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.current_request import HEADER, bind_request_id, key_name, request_id_from, server_timing, timings
from api.problems import MEDIA_TYPE, METHODS, problem_body
from runtime.metrics import REQUEST_SECONDS, REQUESTS
from schemas.masking import masked_path

log = structlog.get_logger()

_HEADER = HEADER.lower().encode()

QUIET_PATHS = frozenset({"/livez", "/readyz", "/api/health", "/metrics"})
"""Asked every few seconds by supervisors and scrapers: their successes are logged at debug level only."""

LONGEST_ADDRESS = 49_152
"""Bytes of path and query together."""

LONGEST_BODY = 65_536
"""Bytes of a body, where nothing else is said."""

LONGER_BODIES = (
    ("/failures/", "/edit", 8 * 1_048_576),
    ("/failures/", "/retry", 1_048_576),
    ("/topics/", "/messages", 1_048_576),
)
"""(beginning and end of a path, bytes): a whole payload as JSON text, a thousand keys, and a record as webhooks take
it."""

OWN_BOUNDS = "/webhooks/"
"""Each webhook source has a bound of its own, see `max_bytes`."""

_WEBHOOK = re.compile(f"{OWN_BOUNDS}[^/]+")

ROUTE = "headrace.route"
"""In a request's scope: the template of what has answered it without being routed."""

NO_ROUTE = "(none)"

READS = frozenset({"GET", "HEAD", "OPTIONS"})

MORE_HEADERS = "headrace.headers"
"""In a request's scope: what its answer is to have besides, whoever makes it."""

POLICY = "headrace.policy"
"""In a request's scope: the Content-Security-Policy of its answer, if it is a page."""

NO_PAGE = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of all other answers: where one is shown as a page after all, it can load and run nothing."""

ONLY_HTTPS = ((b"strict-transport-security", b"max-age=31536000"),)
"""With answers over HTTPS: browsers shall not try HTTP for a year."""

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
"""With every answer: it is of the kind that it says, no page may frame it, and its address is told to nobody."""

FOR_ITS_CALLER = ((b"cache-control", b"private, no-cache"),)
"""With answers that say nothing of it: no cache between us may give one to another caller, who may see less, and a
browser asks whether its own is still right. Caches know of `Authorization`, and nothing of `X-API-Key`.
"""


class BodyTooLarge(HTTPException):
    """Raised where the body is read, for one that is longer than the bound."""

    def __init__(self, longest: int) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {longest:,} bytes")


class RequestContext:
    """Gives every request its id, in its answer and in its log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), None)
        request_id = request_id_from(None if given is None else given.decode("latin-1"))
        bind_request_id(request_id)
        key_name.set("")
        parts: dict[str, float] = {}
        timings.set(parts)
        started = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                timing = server_timing(parts, (time.perf_counter() - started) * 1000)
                ours = (_HEADER, request_id.encode()), (b"server-timing", timing.encode())
                policy = (b"content-security-policy", scope.get(POLICY, NO_PAGE))
                more = (*scope.get(MORE_HEADERS, ()), *(ONLY_HTTPS if scope.get("scheme") == "https" else ()))
                headers = message.get("headers", ())
                kept = () if any(name == b"cache-control" for name, _ in headers) else FOR_ITS_CALLER
                message["headers"] = [*headers, *ours, policy, *SECURITY_HEADERS, *kept, *more]
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                log.exception("request_failed", method=scope["method"], path=masked_path(scope["path"]))
                if status is not None:
                    raise  # Half an answer is out: only a broken connection tells the caller.
                detail = "Something went wrong inside the API; its log has the details under this request_id"
                error = problem_answer(scope["path"], HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)
                await error(scope, receive, send_with_headers)
            finally:
                seconds = time.perf_counter() - started
                ms = round(seconds * 1000, 2)
                _count(scope, status, seconds)
                quiet = scope["path"] in QUIET_PATHS and status == HTTPStatus.OK
                write = log.debug if quiet else log.info
                by = {"key": name} if (name := key_name.get()) else {}
                path = masked_path(scope["path"])
                write("request", method=scope["method"], path=path, status=status, ms=ms, **by)
        finally:
            structlog.contextvars.reset_contextvars(**bound)


def _count(scope: Scope, status: int | None, seconds: float) -> None:
    """Count an answer under its route's template: a path would be a name that anybody can make up."""
    template: Any = scope.get(ROUTE) or getattr(scope.get("route"), "path_format", NO_ROUTE)
    method = scope["method"] if scope["method"] in METHODS else "(other)"
    REQUESTS.inc((method, template, str(status)))
    REQUEST_SECONDS.labels(method, template).observe(seconds)


class RequestBounds:
    """Answers 414 or 413 to what is too long; a body without a length is cut off where it becomes too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if refusal := _too_long(scope):
                await refusal(scope, receive, send)
                return
            if longest := longest_body(scope["path"]):
                receive = _bounded(receive, longest)
        await self._app(scope, receive, send)


def longest_body(path: str) -> int | None:
    """The bound for a path in bytes; None where the endpoint has one of its own. Pure."""
    if path.startswith(OWN_BOUNDS):
        return None
    for begins, ends, most in LONGER_BODIES:
        if path.startswith(begins) and path.endswith(ends):
            return most
    return LONGEST_BODY


def _too_long(scope: Scope) -> Response | None:
    """The refusal of an address or a declared body that is too long; the rest of the request is not read."""
    if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > LONGEST_ADDRESS:
        status, code = HTTPStatus.REQUEST_URI_TOO_LONG, "address-too-long"
        detail = f"the address is longer than {LONGEST_ADDRESS:,} bytes; send fewer or shorter parameters"
        return problem_answer(scope["path"], status, code, detail, {"connection": "close"})
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), None)
    if declared is None:
        return None
    longest = longest_body(scope["path"])
    if longest and declared.isdigit() and int(declared[:20]) > longest:
        error = BodyTooLarge(longest)
        return problem_answer(scope["path"], error.status_code, "body-too-large", error.detail, {"connection": "close"})
    return None


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


def is_webhook(method: str, path: str) -> bool:
    """True for what a source's sender pushes. Pure."""
    return method == "POST" and _WEBHOOK.fullmatch(path) is not None


def problem_answer(path: str, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A problem as an answer, for middleware."""
    return Response(problem_body(status, code, detail, path), status, headers, MEDIA_TYPE)
