"""Each process answers for itself: `GET /health` and `GET /metrics`, from a thread of its own."""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runtime.instruments import exposition
from runtime.metrics import METRICS, PROCESS_DEGRADED, PROCESS_HEALTHY

HealthCheck = Callable[[], dict[str, Any]]
"""Returns details to show; an entry `problem` makes the process unhealthy, one `paused` or `degraded` degraded.

Called from another thread; must not block.
"""

MOST_CALLERS = 32

CALL_SECONDS = 5.0
"""From the connection to the end of the answer."""

_shown_too: dict[str, Callable[[], Any]] = {}


def show_in_health(name: str, detail: Callable[[], Any]) -> None:
    """Show one more detail in the health of this process, whoever serves it. `detail` is called as a HealthCheck is."""
    _shown_too[name] = detail


class HealthServer:
    """Serves health and Prometheus metrics while it is entered. Port 0 means: serve nothing."""

    def __init__(self, port: int, check: HealthCheck, role: str | None = None, address: str = "127.0.0.1") -> None:
        """`role` is the process's, whose metrics are to be shown."""
        self._port = port
        self._check = check
        self._role = role
        self._address = address
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> None:
        """Bind and serve. Raises OSError if the port is taken."""
        if self._role:
            METRICS.expose(self._role)
        if self._port:
            self._server = _Server((self._address, self._port), _handler(self._check))
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread per connection, none of which lasts longer than CALL_SECONDS; one too many takes the oldest's place."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: dict[socket.socket, None] = {}
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._open) >= MOST_CALLERS:
            oldest = next(iter(self._open))
            self._open.pop(oldest, None)
            _hang_up(oldest)
        self._open[request] = None
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A time-out of the socket would begin again with every byte that drips in.
        deadline = threading.Timer(CALL_SECONDS, _hang_up, (request,))
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers who hang up, or are hung up on, are not worth a line."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _handler(check: HealthCheck) -> type[BaseHTTPRequestHandler]:
    def health() -> tuple[str, dict[str, Any]]:
        details = check() | {name: shown() for name, shown in list(_shown_too.items())}
        degraded = details.get("paused") or details.get("degraded")
        return "unhealthy" if "problem" in details else "degraded" if degraded else "healthy", details

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                word, _ = health()
                PROCESS_HEALTHY.set(word != "unhealthy")
                PROCESS_DEGRADED.set(word == "degraded")
                self._answer(HTTPStatus.OK, *exposition(self.headers["Accept"]))
            elif self.path == "/health":
                word, details = health()
                body = json.dumps({"status": word, **details}).encode()
                status = HTTPStatus.SERVICE_UNAVAILABLE if word == "unhealthy" else HTTPStatus.OK
                self._answer(status, "application/json", body)
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"try /health or /metrics\n")

        def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Health is asked every few seconds: not worth a line."""

    return Handler
