"""Clients that only hold a connection, drip, or do not read, are given up by our servers, and keep nobody waiting."""

import contextlib
import resource
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import hypothesis
import pytest

from runtime.settings import Settings
from runtime.slow_clients import SPARE_DESCRIPTORS
from tests.processes import PROJECT, STOP_SECONDS, Process, free_port
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


OVER_HTTPS = """
import resource
import sys
from pathlib import Path
import runtime.slow_clients as clients
from runtime.http_server import Wire, serve
loop, port, file, descriptors, patience = sys.argv[1:]
if loop == "asyncio":
    sys.modules["uvloop"] = None
resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors), int(descriptors)))
clients.HEAD_SECONDS = float(patience)

async def answer(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

wire = Wire(certificate_file=Path(file), key_file=Path(file))
serve(answer, "127.0.0.1", int(port), name="server", variable="PORT", wire=wire)
"""


@dataclass
class OverHttps:
    """A server that speaks HTTPS alone."""

    pid: int
    port: int
    trusted: ssl.SSLContext

    def answers(self) -> bool:
        """True if a client that has no connection yet gets an answer."""
        with httpx.Client(verify=self.trusted, trust_env=False, timeout=WITHIN) as client:
            return client.get(f"https://127.0.0.1:{self.port}/").is_success

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WITHIN)

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextlib.contextmanager
def over_https(folder: Path, loop: str, descriptors: int, patience: float) -> Iterator[OverHttps]:
    """`patience`: seconds for a handshake and for a head."""
    files, port = make_certificates(folder), free_port()
    arguments = [loop, str(port), str(files.server), str(descriptors), str(patience)]
    process = subprocess.Popen([sys.executable, "-c", OVER_HTTPS, *arguments], cwd=PROJECT)
    server = OverHttps(process.pid, port, ssl.create_default_context(cafile=files.authority))

    def answers() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            return server.answers()
        return False

    try:
        eventually(answers, what="it answers over HTTPS", within=300)
        yield server
    finally:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a beginning"])
def test_who_never_ends_its_tls_handshake_is_hung_up_on(loop: str, sent: bytes, tmp_path: Path) -> None:
    with over_https(tmp_path, loop, descriptors=1000, patience=2) as server:
        with server.connect() as connection:
            connection.sendall(sent)
            wait_until_hung_up(connection)
        assert server.answers()


FOR_EVER = 3600.0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["says nothing", "begins a handshake", "ends it", "ends it and does not hang up"])
def test_connections_over_tls_never_take_all_descriptors(loop: str, kind: str, tmp_path: Path) -> None:
    """Neither deadline helps: they take the place of each other, and a client that has something to ask finds one."""
    descriptors = SPARE_DESCRIPTORS + 50
    with over_https(tmp_path, loop, descriptors, FOR_EVER) as server, contextlib.ExitStack() as held:
        at_first = server.descriptors
        for number in range(2 * descriptors):
            connection = held.enter_context(server.connect())
            if kind == "begins a handshake":
                connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            elif kind != "says nothing":
                connection = held.enter_context(server.trusted.wrap_socket(connection, server_hostname="127.0.0.1"))
                if "not hang up" in kind:
                    connection.sendall(b"no HTTP\r\n\r\n")  # answered by 400, and closed on our side
            if number % 100 == 99:
                assert server.answers()
                assert server.descriptors < at_first + 100
        assert server.answers()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_who_speaks_no_tls_is_hung_up_on_without_a_word_in_the_log(
    loop: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with over_https(tmp_path, loop, descriptors=1000, patience=FOR_EVER) as server:
        capfd.readouterr()
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 100):
            with server.connect() as connection:
                connection.sendall(sent)
                wait_until_hung_up(connection)
        with server.connect():
            pass
        assert server.answers()
        told = capfd.readouterr()
        assert (told.out, told.err) == ("", "")
