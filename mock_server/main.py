"""The mock server as a process: binds, serves until SIGTERM or Ctrl-C, and ends with exit code 0."""

import signal
import socket
import sys
from types import FrameType

import structlog
import uvicorn

from mock_server.app import create_app
from runtime.settings import Settings

log = structlog.get_logger()

SHUTDOWN_SECONDS = 5
BACKLOG = 512


class CannotListen(OSError):
    """The address cannot be bound; the message names it, the reason and the way out."""


def run(settings: Settings) -> None:
    """Serve on `settings.mock_bind`:`settings.mock_port`. Blocks; returns or raises SystemExit(0) when stopped.

    Raises CannotListen, DataFileError or SettingsError before anything is served.
    """
    # uvicorn raises the signal that stopped it once more after its shutdown, under the handlers set before it: with
    # the default ones the process would die of SIGTERM instead of ending with 0.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _exit_cleanly)
    app = create_app(settings)
    listener = _bind(settings.mock_bind, settings.mock_port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
    log.info("mock_server_listening", address=settings.mock_bind, port=settings.mock_port)
    try:
        with listener:
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        log.info("mock_server_stopped")


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The socket module appends the address to the system's words; it is named here already.
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise CannotListen(
            f"The mock server cannot listen on {address}:{port}: {reason}. "
            "Free the port, or choose others with MOCK_PORT and MOCK_BIND (--port, --bind)"
        ) from error
