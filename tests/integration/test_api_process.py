"""The API as a process: it starts without its stores, ends with 0, and says why it cannot start."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.api_client import closed_port
from tests.processes import PLAIN, STOP_SECONDS
from tests.waiting import eventually


@contextmanager
def api_process(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The API with every store at an address where nothing listens."""
    down = closed_port()
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(folder),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{down}",
        "DATABASE_URL": f"postgresql://headrace:headrace@127.0.0.1:{down}/headrace",
        "REDIS_URL": f"redis://127.0.0.1:{down}/0",
        "ELASTICSEARCH_URL": f"http://127.0.0.1:{down}",
        "LOG_FORMAT": "json",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "api", "--port", str(port)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_alive(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    def alive() -> bool:
        assert process.poll() is None, "the API ended at its start"
        return client.get("/livez").status_code == 200

    eventually(alive, what="the API answers")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_it_with_exit_code_0_even_with_a_client_connected(
    stop: signal.Signals, tmp_path: Path
) -> None:
    port = closed_port()
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=PLAIN)
    with api_process(port, tmp_path) as process, client:
        wait_until_alive(client, process)
        assert client.get("/api/health").status_code == 503
        process.send_signal(stop)
        assert process.wait(STOP_SECONDS) == 0
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert any('"event": "listening"' in line for line in lines)
    # Kafka's client, left to itself, prints a line per connection attempt.
    assert all(line.startswith("{") for line in lines), lines


def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with api_process(port, tmp_path) as process:
            _, errors = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 1
    assert str(port) in errors
    assert "API_PORT" in errors
    assert "Traceback" not in errors


def test_importing_the_entry_point_reads_and_opens_nothing(tmp_path: Path) -> None:
    """`uvicorn api.main:app` makes the application when it asks for it."""
    code = (
        "import api.main, sys\n"
        "print(hasattr(api.main, 'nothing'))\n"
        "print(type(api.main.app).__name__, api.main.app is api.main.app)\n"
    )
    environment = {**os.environ, "HEADRACE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["False", "FastAPI", "True"]
