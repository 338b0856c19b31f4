"""HTTP connections that are given up when their client is too slow, says too much, or only holds them.

uvicorn closes a connection that is idle between two requests, and none other: not one that never ends its handshake
or begins a request, that sends it byte by byte, or that does not read the answer. Each costs memory and a descriptor.
"""

import asyncio
import errno
import os
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From the opening of a connection, or the first byte of a later request, to the last header; as long for a TLS
handshake before it."""

IDLE_SECONDS = 75
"""Between two requests. Who keeps connections for longer than the server may send a request on one that is just being
closed, and gets no answer: clients keep them for some seconds, nginx and AWS' load balancers for 60 s."""

BODY_SECONDS = 60.0
"""From the last header to the end of the body."""

READ_SECONDS = 30.0
"""An answer that waits for its reader must have become shorter by READ_BYTES after so long, again and again."""

READ_BYTES = 16_384

MOST_AHEAD = 16
"""Requests that wait for the answer to one before them. uvicorn would read on with each answer, 256 KiB of requests."""

LONGEST_HEAD = 131_072
"""Bytes of a request beside its body: address, headers, trailers, and frames beyond the size of what they hold."""

SPARE_DESCRIPTORS = 200
"""For stores, files and what else is open besides connections."""

ACCEPT_AGAIN_SECONDS = 1.0
"""After the system had no descriptor or memory for one more connection."""

log = structlog.get_logger()

_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def most_connections(wanted: int) -> int:
    """Connections that this process may hold: as many as wanted, or what its limit of open files leaves."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - SPARE_DESCRIPTORS))


class TooManyAhead(ValueError):
    """A client sends requests without waiting for answers; it ends the reading of what it has sent."""


class PatientProtocol(HttpToolsProtocol):
    """A connection that knows since when it waits for its client.

    `look` is to be called about once a second: a timer per request would cost more than most requests.
    """

    def __init__(self, *args: Any, most: int, **more: Any) -> None:
        """With `most` connections open, one more takes the place of the one that waits longest for its client."""
        super().__init__(*args, **more)
        self._most = most
        self.since = 0.0
        """Begin of what the client has time for now; monotonic."""
        self._in_request = self._in_body = self._given_up = False
        self._beside_body = 0
        self._unread = 0
        self._unread_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()
        if len(self.connections) > self._most:
            make_room(self.connections)

    def data_received(self, data: bytes) -> None:
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > LONGEST_HEAD and not self.transport.is_closing():
            log.info("request_refused", status=431, reason=f"more than {LONGEST_HEAD:,} bytes beside the body")
            self._refuse(_TOO_LONG)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_AHEAD:
            raise TooManyAhead
        self._beside_body = 0
        if self._between_requests:
            self.since = time.monotonic()
        self._in_request = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_body, self.since = True, time.monotonic()

    def on_body(self, body: bytes) -> None:
        self._beside_body -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_request = self._in_body = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = time.monotonic()

    @property
    def patience(self) -> float | None:
        """Seconds that the client has for what it is doing; None where it waits for us, or has gone."""
        if self.transport.is_closing() or self.pipeline:
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return BODY_SECONDS if self._in_body else None
        return self.timeout_keep_alive if self._between_requests else HEAD_SECONDS

    @property
    def _between_requests(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete and not self._in_request

    def look(self, now: float) -> None:
        """Close it if its client has had its time."""
        unread = self.transport.get_write_buffer_size()
        if not unread or not self._unread or unread <= self._unread - READ_BYTES:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > READ_SECONDS:
            self._abort()
        if (patience := self.patience) is None or now - self.since <= patience:
            return
        if self._between_requests:
            self.transport.close()  # without a word, which its client could take for the answer to a request just sent
        else:
            self._refuse(_TOO_LATE)

    @property
    def waits_for_client(self) -> bool:
        """True if it is the client's turn: also to read the end of an answer, or to say that it has seen the end."""
        return not self._given_up and (self.patience is not None or self.transport.is_closing())

    def give_up(self) -> None:
        """Close it at once."""
        self._given_up = True
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        log.info("request_refused", status=400, reason=msg)  # no application hears of it
        if self.pipeline:
            self._abort()  # another answer may be half sent
        else:
            super().send_400_response(msg)

    def _abort(self) -> None:
        """Close it without waiting for what is unsent, in this process and in the system's buffers."""
        if connection := self.transport.get_extra_info("socket"):
            # Under TLS it may be closed a moment before we are told.
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _refuse(self, answer: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()


@dataclass(eq=False)
class Handshake:
    """A connection before the end of its TLS handshake."""

    connection: socket.socket
    since: float
    waits_for_client: bool = True
    task: asyncio.Task[None] | None = None

    def give_up(self) -> None:
        """Let it fail at once, as if the client had gone."""
        self.waits_for_client = False
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class Handshakes:
    """Accepts connections, and makes a protocol of each that has ended its TLS handshake.

    As an asyncio server does, but handshakes under way count among the connections, of which there are `most`. To be
    made in the event loop.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        connections: Collection[object],
        most: int,
    ) -> None:
        self._context = context
        self._protocol = protocol
        self._connections = connections
        self._most = most
        self._under_way: set[Handshake] = set()
        self._accepting = asyncio.create_task(self._accept(listener.dup()))

    def close(self) -> None:
        """Accept nobody more."""
        self._accepting.cancel()
        for handshake in self._under_way:
            handshake.give_up()

    async def wait_closed(self) -> None:
        await asyncio.wait({self._accepting, *(one.task for one in self._under_way if one.task)})

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            listener.setblocking(False)
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    full = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
                    if full:
                        log.warning("cannot_accept", reason=error.strerror)
                    await asyncio.sleep(ACCEPT_AGAIN_SECONDS if full else 0)  # else the client has gone already
                    continue
                handshake = Handshake(connection, time.monotonic())
                self._under_way.add(handshake)
                handshake.task = asyncio.create_task(self._shake_hands(handshake))
                if len(self._connections) + len(self._under_way) > self._most:
                    make_room((*self._connections, *self._under_way))
                await asyncio.sleep(0)  # who accepts one after the other does nothing else

    async def _shake_hands(self, handshake: Handshake) -> None:
        try:
            with suppress(OSError):  # it spoke no TLS, was too slow, or has gone: the loop has closed it
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._protocol,
                    handshake.connection,
                    ssl=self._context,
                    ssl_handshake_timeout=HEAD_SECONDS,
                    ssl_shutdown_timeout=HEAD_SECONDS,
                )
        finally:
            self._under_way.discard(handshake)


def make_room(connections: Collection[object]) -> None:
    """Give up the one that has waited longest for its client, if any waits."""
    known = (one for one in connections if isinstance(one, PatientProtocol | Handshake))
    if waiting := [one for one in known if one.waits_for_client]:
        min(waiting, key=lambda one: one.since).give_up()
