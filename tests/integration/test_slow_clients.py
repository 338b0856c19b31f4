"""Clients that only hold a connection, drip, or do not read, are given up by our servers, and keep nobody waiting."""

import contextlib
import resource
import select
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import hypothesis
import pytest

from runtime.settings import Settings
from tests.processes import Process

IMPATIENT = """
import runtime.slow_clients as clients
clients.HEAD_SECONDS = clients.BODY_SECONDS = clients.READ_SECONDS = 2.0
"""

WITHIN = 60
"""A socket's seconds until the test gives up; before, they would have been held for ever."""


@pytest.fixture(scope="module", params=["api", "mock-server"])
def server(
    request: pytest.FixtureRequest, shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    process = Process(request.param, shared_pipeline_settings, tmp_path_factory.mktemp("log") / "log", patch=IMPATIENT)
    with process.running():
        yield process


def connect(server: Process, receive_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(WITHIN)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect(("127.0.0.1", urlsplit(server.url).port))
    return connection


def wait_until_hung_up(connection: socket.socket) -> bytes:
    """All that comes until the end. Fails with a time-out if there is none."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65_536):
            received += more
    return received


def test_idle_connections_are_closed_and_meanwhile_others_are_answered(server: Process) -> None:
    thorough = hypothesis.settings.get_current_profile_name() == "nightly"
    wanted = 1_500 if thorough else 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, wanted + 500)), hard))
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(connect(server)) for _ in range(wanted)]
        assert httpx.get(f"{server.url}/api/health", timeout=WITHIN, trust_env=False).is_success
        for connection in idle:
            wait_until_hung_up(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/he",
        b"GET /api/health HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ",
        b"POST /api/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n[",
        b"GET /api/health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET /api",
    ],
    ids=["line", "header", "body", "second request"],
)
def test_who_drips_is_hung_up_on(server: Process, sent: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                if poll.poll(50) and not connection.recv(65_536):
                    break
                connection.sendall(b"1")


def test_who_asks_without_waiting_for_answers_is_hung_up_on(server: Process) -> None:
    with connect(server) as connection:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                connection.send(b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 100)
        broken = select.poll()
        broken.register(connection, 0)
        assert broken.poll(WITHIN * 1000)


def test_who_does_not_read_is_hung_up_on(server: Process) -> None:
    with connect(server, receive_bytes=4096) as connection:
        broken = select.poll()
        broken.register(connection, 0)  # only errors, which are always told
        for _ in range(WITHIN * 50):  # until the buffers of both sides are full, and then until it is hung up on
            if broken.poll(20):
                return
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        pytest.fail("it is still held")
