"""ASGI middleware around everything where requests are traced: a span for each, in the caller's trace if it has one.

A span is named by its route, never by its path, in which keys stand.
"""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware import QUIET_PATHS, ROUTE
from api.problems import METHODS
from runtime.tracing import TRACEPARENT, TRACESTATE, span

_CARRY = frozenset({TRACEPARENT.encode(), TRACESTATE.encode()})


class TracedRequests:
    """Of the questions that supervisors ask every few seconds it makes none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        caller = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRY}
        method = scope["method"] if scope["method"] in METHODS else "(other)"
        with span(method, "SERVER", caller, http_request_method=method) as made:

            async def send_and_note(message: Message) -> None:
                if made is not None and message["type"] == "http.response.start":
                    status: int = message["status"]
                    made.set_attribute("http.response.status_code", status)
                    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        made.set_attribute("error.type", str(status))
                    if route := scope.get(ROUTE) or getattr(scope.get("route"), "path_format", None):
                        made.update_name(f"{method} {route}")
                        made.set_attribute("http.route", route)
                await send(message)

            await self._app(scope, receive, send_and_note)
