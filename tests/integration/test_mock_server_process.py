"""The mock server as a process: it answers on loopback, ends with 0, and says why it cannot start."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.processes import PLAIN, STOP_SECONDS, free_port
from tests.waiting import eventually


@contextmanager
def mock_process(port: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "mock-server"],
        env={**os.environ, "MOCK_PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_healthy(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    def healthy() -> bool:
        assert process.poll() is None, "the mock server ended at its start"
        return client.get("/api/health").status_code == 200

    eventually(healthy, what="the mock server is healthy")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_the_mock_server_with_exit_code_0_even_with_a_client_connected(stop: signal.Signals) -> None:
    port = free_port()
    with (
        mock_process(port) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=PLAIN) as client,
    ):
        wait_until_healthy(client, process)
        assert len(client.get("/api/customers", params={"limit": 100}).json()["data"]) == 100
        process.send_signal(stop)
        assert process.wait(STOP_SECONDS) == 0


def test_the_mock_server_names_a_taken_port_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with mock_process(port) as process:
            assert process.wait(STOP_SECONDS) == 1
            assert process.stderr is not None
            said = process.stderr.read()
    assert f"127.0.0.1:{port}: Address already in use" in said
    assert "MOCK_PORT" in said
