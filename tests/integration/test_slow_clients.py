"""Clients that only hold a connection, drip, or do not read, are given up by our servers, and keep nobody waiting."""

import contextlib
import resource
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import hypothesis
import pytest

from runtime.settings import Settings
from tests.processes import PROJECT, Process, free_port
from tests.servers.secured import make_certificates
from tests.waiting import eventually

IMPATIENT = """
import runtime.slow_clients as clients
clients.HEAD_SECONDS = clients.BODY_SECONDS = clients.READ_SECONDS = 2.0
"""

WITHIN = 50
"""A socket's seconds until the test gives up. Without deadlines it would be held for ever, in a handshake for 60 s."""


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


OVER_HTTPS = (
    IMPATIENT
    + """
import sys
from pathlib import Path
from runtime.http_server import Wire, serve
loop, port, file = sys.argv[1:]
if loop == "asyncio":
    sys.modules["uvloop"] = None

async def answer(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

wire = Wire(certificate_file=Path(file), key_file=Path(file))
serve(answer, "127.0.0.1", int(port), name="server", variable="PORT", wire=wire)
"""
)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a beginning"])
def test_who_never_ends_its_tls_handshake_is_hung_up_on(loop: str, sent: bytes, tmp_path: Path) -> None:
    files, port = make_certificates(tmp_path), free_port()
    trusted = ssl.create_default_context(cafile=files.authority)
    server = subprocess.Popen([sys.executable, "-c", OVER_HTTPS, loop, str(port), files.server], cwd=PROJECT)
    try:
        with httpx.Client(verify=trusted, trust_env=False, timeout=WITHIN) as client:

            def answers() -> bool:
                with contextlib.suppress(httpx.ConnectError):
                    return client.get(f"https://127.0.0.1:{port}/").is_success
                return False

            eventually(answers, what="it answers over HTTPS", within=300)
            with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
                connection.sendall(sent)
                wait_until_hung_up(connection)
            assert answers()
    finally:
        server.terminate()
        assert server.wait() == 0
