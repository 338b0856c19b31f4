"""Each process answers for itself: `GET /health` and `GET /metrics`, from a thread of its own."""

import json
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
            self._server = ThreadingHTTPServer((self._address, self._port), _handler(self._check))
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()


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
