"""A process's health, over HTTP."""

import contextlib
import socket
import threading

import httpx
import pytest

from runtime.health import MOST_CALLERS, HealthServer
from tests.processes import free_port
from tests.waiting import eventually


def test_details_are_shown_and_a_problem_makes_it_unhealthy() -> None:
    details: dict[str, object] = {"records": 7}
    port = free_port()
    with HealthServer(port, lambda: details):
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/health").json() == {"status": "healthy", "records": 7}
        details["problem"] = "postgres: refused"
        answer = httpx.get(f"{url}/health")
        assert answer.status_code == 503
        assert answer.json() == {"status": "unhealthy", "records": 7, "problem": "postgres: refused"}
        assert "python_info" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/elsewhere").status_code == 404


def test_the_port_is_free_again_afterwards() -> None:
    port = free_port()
    for _ in range(2):
        with HealthServer(port, dict):
            assert httpx.get(f"http://127.0.0.1:{port}/health").is_success


def test_a_taken_port_is_an_error_at_start() -> None:
    port = free_port()
    with HealthServer(port, dict), pytest.raises(OSError, match="in use"), HealthServer(port, dict):
        pass


@pytest.mark.parametrize("sent", [b"", b"GET /he", b"GET /health HTTP/1.1\r\nhost: a\r\nx: "])
def test_who_sends_no_whole_request_is_hung_up_on_however_it_drips(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.health.CALL_SECONDS", 0.3)
    port = free_port()
    with HealthServer(port, dict), socket.create_connection(("127.0.0.1", port), timeout=60) as caller:
        caller.sendall(sent)
        caller.settimeout(0.05)
        with pytest.raises((BrokenPipeError, ConnectionResetError, EOFError)):
            _drip_until_hung_up(caller)


def _drip_until_hung_up(caller: socket.socket) -> None:
    while True:
        caller.sendall(b"a")
        try:
            if caller.recv(1000) == b"":
                raise EOFError
        except TimeoutError:
            continue


def test_idle_callers_keep_nobody_from_asking() -> None:
    port = free_port()
    with HealthServer(port, dict), contextlib.ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).is_success
        eventually(
            lambda: sum(one.name.startswith("Thread-") for one in threading.enumerate()) <= 2 * MOST_CALLERS + 20,
            what="no more threads than callers who are waited for",
        )
