"""A connection is given up when its client has had its time, and not while the client waits for us."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from runtime.slow_clients import (
    BODY_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    LONGEST_HEAD,
    MOST_AHEAD,
    READ_BYTES,
    READ_SECONDS,
    PatientProtocol,
    most_connections,
)

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n"


class Wire(asyncio.Transport):
    """What is written to it stays unread, unless the test takes it away."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unread = 0
        self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Scene:
    """Connections of one server, whose application answers when it is told to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.state = ServerState()
        self.config = uvicorn.Config(self.app, interface="asgi3", log_config=None, timeout_keep_alive=IDLE_SECONDS)

    async def app(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self, most: int = 10) -> tuple[PatientProtocol, Wire]:
        wire = Wire()
        connection = PatientProtocol(self.config, self.state, {}, most=most)
        connection.connection_made(wire)
        return connection, wire

    async def answer(self) -> None:
        self.may_answer.set()
        await asyncio.gather(*self.state.tasks)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.answer()


def after(seconds: float) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"P", HEAD], ids=["nothing", "a line", "a letter", "half a head"])
async def test_a_head_has_its_time(scene: Scene, sent: bytes) -> None:
    connection, wire = scene.connect()
    connection.data_received(sent)
    connection.look(after(HEAD_SECONDS - 5))
    assert not wire.closed
    for byte in (b"a", b"b"):
        connection.data_received(byte)  # what drips in wins no time
    connection.look(after(HEAD_SECONDS + 1))
    assert wire.closed


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: b\x1b[2J\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n", 400),
        (b"\x16\x03\x01 a TLS handshake", 400),
        (HEAD + b"x: " + b"y" * (LONGEST_HEAD + 5_000), 431),
    ],
)
async def test_a_request_that_no_application_hears_of_has_a_line_in_the_log(
    scene: Scene, sent: bytes, status: int
) -> None:
    connection, wire = scene.connect()
    with capture_logs() as lines:
        for start in range(0, len(sent), 1000):
            connection.data_received(sent[start : start + 1000])
    assert wire.written.startswith(b"HTTP/1.1 %d" % status)
    assert [(line["event"], line["status"]) for line in lines] == [("request_refused", status)]
    assert "b\x1b" not in str(lines)


async def test_a_body_has_its_time(scene: Scene) -> None:
    connection, wire = scene.connect()
    connection.data_received(HEAD + b"\r\n" + b"x" * 9)
    connection.look(after(BODY_SECONDS - 5))
    assert wire.written == b""
    connection.look(after(BODY_SECONDS + 1))
    assert wire.closed
    assert wire.written.startswith(b"HTTP/1.1 408 ")


async def test_the_client_may_wait_for_us_as_long_as_it_takes_and_then_has_its_time_again(scene: Scene) -> None:
    connection, wire = scene.connect()
    connection.data_received(HEAD + b"\r\n" + b"x" * 10)
    connection.look(after(10 * BODY_SECONDS))
    assert not wire.closed
    await scene.answer()
    assert wire.written.endswith(b"ok")
    connection.data_received(b"GE")
    connection.look(after(HEAD_SECONDS - 5))
    assert not wire.closed
    connection.look(after(HEAD_SECONDS + 1))
    assert wire.closed


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "a line"])
async def test_between_two_requests_a_connection_may_be_idle_longer_than_a_head_may_take(
    scene: Scene, sent: bytes
) -> None:
    connection, wire = scene.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    await scene.answer()
    connection.data_received(sent)
    answer = wire.written
    connection.look(after(IDLE_SECONDS - 5))
    assert (wire.closed, wire.written) == (False, answer)
    connection.look(after(IDLE_SECONDS + 1))
    # Who asks in this moment would take a word of ours for the answer.
    assert (wire.closed, wire.written) == (True, answer)


async def test_a_request_that_came_before_its_turn_has_its_time_once_it_is_its_turn(scene: Scene) -> None:
    connection, wire = scene.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" + HEAD + b"\r\n")
    connection.look(after(10 * BODY_SECONDS))
    assert not wire.closed
    scene.may_answer.set()
    await asyncio.wait(scene.state.tasks, return_when=asyncio.FIRST_COMPLETED)
    scene.may_answer.clear()
    connection.look(after(BODY_SECONDS + 1))
    assert wire.closed


async def test_one_that_has_been_closed_in_between_harms_nobody(scene: Scene) -> None:
    connection, wire = scene.connect()
    gone = socket.socket()
    gone.close()
    wire._extra = {"socket": gone}  # type: ignore[attr-defined]
    wire.unread = 10 * READ_BYTES
    start = after(0)
    connection.look(start)
    connection.look(start + READ_SECONDS + 1)
    assert wire.aborted


async def test_an_answer_that_nobody_reads_is_thrown_away_even_where_it_is_closed_already(scene: Scene) -> None:
    connection, wire = scene.connect()
    wire.unread, wire.closed = 10 * READ_BYTES, True
    start = after(0)
    connection.look(start)
    wire.unread -= READ_BYTES
    connection.look(start + READ_SECONDS + 1)
    wire.unread -= 1
    connection.look(start + 2 * READ_SECONDS)
    assert not wire.aborted
    connection.look(start + 3 * READ_SECONDS)
    assert wire.aborted


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * (LONGEST_HEAD + 5_000),
        b"GET / HTTP/1.1\r\na: " + b"a" * (LONGEST_HEAD + 5_000),
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (LONGEST_HEAD // 5),
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * (LONGEST_HEAD // 5),
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"a" * (LONGEST_HEAD + 5_000),
    ],
    ids=["address", "a header", "headers", "trailers", "a chunk's extension"],
)
async def test_what_is_not_body_is_bounded(scene: Scene, sent: bytes) -> None:
    connection, wire = scene.connect()
    for start in range(0, len(sent), 1000):
        if not wire.closed:
            connection.data_received(sent[start : start + 1000])
    assert wire.closed
    assert wire.written.startswith(b"HTTP/1.1 431 ")


async def test_a_body_in_small_chunks_is_no_long_head(scene: Scene) -> None:
    connection, wire = scene.connect()
    connection.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(LONGEST_HEAD // 4):
        connection.data_received(b"8\r\n12345678\r\n")
    assert not wire.closed


async def test_requests_far_ahead_of_their_answers_end_the_connection(scene: Scene) -> None:
    connection, wire = scene.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * (MOST_AHEAD + 1))
    assert not wire.closed
    connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 1000)
    assert wire.aborted
    assert len(connection.pipeline) == MOST_AHEAD


async def test_one_connection_too_many_takes_the_place_of_the_one_that_has_waited_longest_for_its_client(
    scene: Scene,
) -> None:
    busy, busy_wire = scene.connect()
    busy.data_received(HEAD + b"\r\n" + b"x" * 10)
    (_, idlest), (_, idle) = scene.connect(), scene.connect(most=3)
    assert not idlest.closed
    _, newest = scene.connect(most=3)
    assert (idlest.aborted, idle.closed, newest.closed, busy_wire.closed) == (True, False, False, False)


def test_connections_leave_descriptors_for_the_stores() -> None:
    assert most_connections(1) == 1
    assert 1 <= most_connections(10**9) < 10**9
