"""HTTP connections that are given up when their client is too slow, says too much, or only holds them.

uvicorn closes a connection that is idle between two requests, and none other: not one that never begins a request,
that sends it byte by byte, or that does not read the answer. Each costs memory and a descriptor.
"""

import asyncio
import os
import resource
import socket
import struct
import time
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From the opening of a connection, or the answer before, to the last header; as long for a TLS handshake before it."""

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
        self._in_body = False
        self._beside_body = 0
        self._unread = 0
        self._unread_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()
        if len(self.connections) > self._most:
            waiting = [one for one in self.connections if isinstance(one, PatientProtocol) and one.patience is not None]
            min(waiting, key=lambda one: one.since).transport.abort()

    def data_received(self, data: bytes) -> None:
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > LONGEST_HEAD:
            self._refuse(_TOO_LONG)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_AHEAD:
            raise TooManyAhead
        self._beside_body = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_body, self.since = True, time.monotonic()

    def on_body(self, body: bytes) -> None:
        self._beside_body -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = time.monotonic()

    @property
    def patience(self) -> float | None:
        """Seconds that the client has for what it is doing; None where it waits for us, or has gone."""
        if self.transport.is_closing() or self.pipeline:
            return None
        if self.cycle is None or self.cycle.response_complete:
            return HEAD_SECONDS
        return BODY_SECONDS if self._in_body else None

    def look(self, now: float) -> None:
        """Close it if its client has had its time."""
        unread = self.transport.get_write_buffer_size()
        if not unread or not self._unread or unread <= self._unread - READ_BYTES:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > READ_SECONDS:
            self._abort()
        if (patience := self.patience) is not None and now - self.since > patience:
            self._refuse(_TOO_LATE)

    def send_400_response(self, msg: str) -> None:
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
