"""An ASGI application as a process: binds, serves until SIGTERM or Ctrl-C, and ends with exit code 0."""

import asyncio
import errno
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvicorn

from runtime.slow_clients import IDLE_SECONDS, Handshakes, PatientProtocol, most_connections

log = structlog.get_logger()

SHUTDOWN_SECONDS = 8
"""Time for requests under way to end when a stop is asked for: below the 10 s that supervisors allow."""

BACKLOG = 1024

LOOK_EVERY_SECONDS = 1.0
"""Between two looks at how long each client has taken. uvicorn alone would wake up ten times as often, for nothing."""

stopping = threading.Event()
"""Set once a stop is asked for: an answer without an end, such as a stream of events, has to look at it."""


class CannotListen(OSError):
    """The address cannot be bound; the message names it, the reason and the way out."""


@dataclass(frozen=True)
class Wire:
    """Everything that the settings say of a server's connections: how many, through whom, and by which certificate."""

    connections: int = 1_000
    idle_seconds: int = IDLE_SECONDS
    """For so long a connection is kept between two requests."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    certificate_file: Path | None = None
    """HTTPS where there is one; HTTP otherwise."""
    key_file: Path | None = None


def serve(app: Any, address: str, port: int, *, name: str, variable: str, wire: Wire = Wire()) -> None:
    """Serve an ASGI application. Blocks; returns or raises SystemExit(0) when stopped.

    `name` is for messages and logs, `variable` the setting of the port. Raises CannotListen before anything is served.
    """
    # uvicorn raises the signal that stopped it once more after its shutdown, under the handlers set before it: with
    # the default ones the process would die of SIGTERM instead of ending with 0.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _exit_cleanly)
    listener = _bind(address, port, name, variable)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=wire.idle_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        proxy_headers=bool(wire.trusted_proxies),  # uvicorn alone would believe everybody on this machine
        forwarded_allow_ips=list(wire.trusted_proxies),
        ssl_certfile=wire.certificate_file,
        ssl_keyfile=wire.key_file,
    )
    log.info("listening", name=name, address=address, port=port)
    try:
        with listener:
            _Server(config, most_connections(wire.connections)).run(sockets=[listener])
    finally:
        log.info("stopped", name=name)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, most: int) -> None:
        super().__init__(config)
        self._most = most
        self._asked_to_stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but with connections that know how long they wait, and that count before their handshake."""
        await super().startup(sockets=[])
        if self.should_exit:
            return
        config, state = self.config, self.server_state
        protocol = partial(PatientProtocol, config, state, self.lifespan.state, most=self._most)
        for listener in sockets or ():
            server: Any
            if config.ssl:
                server = Handshakes(listener, config.ssl, protocol, state.connections, self._most)
            else:
                server = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG)
            self.servers.append(server)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_stop.wait(), LOOK_EVERY_SECONDS)

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, PatientProtocol):
                connection.look(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        stopping.set()
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._asked_to_stop.set)


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _bind(address: str, port: int, name: str, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The socket module appends the address to the system's words; it is named here already.
        reason = (error.strerror or str(error)).partition(" (while")[0]
        remedy = f"Stop the process that holds the port, or choose another with {variable} (or --port)"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = f"Choose an address of this machine with {variable.replace('_PORT', '_BIND')} (or --bind)"
        raise CannotListen(f"The {name} cannot listen on {address}:{port}: {reason}. {remedy}") from error
