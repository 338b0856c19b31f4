"""ASGI middleware around everything: request id, access log, Server-Timing, and the 500 without a stack trace."""

import time
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.current_request import HEADER, bind_request_id, request_id_from, server_timing, timings
from api.problems import MEDIA_TYPE, problem_body

log = structlog.get_logger()

QUIET_PATHS = frozenset({"/livez", "/readyz", "/api/health"})
"""Asked every few seconds by supervisors: their successes are logged at debug level only."""


class RequestContext:
    """Gives every request its id, in its answer and in its log lines. Pure ASGI: no task or queue per request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_from(Headers(scope=scope).get(HEADER))
        bind_request_id(request_id)
        parts: dict[str, float] = {}
        timings.set(parts)
        started = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                headers["Server-Timing"] = server_timing(parts, (time.perf_counter() - started) * 1000)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status is not None:
                    raise  # Half an answer is out: only a broken connection tells the caller.
                await _internal_error(scope["path"])(scope, receive, send_with_headers)
            finally:
                ms = round((time.perf_counter() - started) * 1000, 2)
                quiet = scope["path"] in QUIET_PATHS and status == HTTPStatus.OK
                write = log.debug if quiet else log.info
                write("request", method=scope["method"], path=scope["path"], status=status, ms=ms)


def _internal_error(path: str) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "Something went wrong inside the API; its log has the details under this request_id"
    return Response(problem_body(status, "internal-error", detail, path), status, media_type=MEDIA_TYPE)
