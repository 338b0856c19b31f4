"""Our own processes, run by a test as the supervisor would: as subprocesses that can be killed and restarted."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import SecretStr

from local_stack.addresses import assign_ports
from runtime.settings import KAFKA_SECURITY, Settings
from schemas.sinks import SINKS
from tests.waiting import eventually

PROJECT = Path(__file__).parent.parent
WORKERS = ("normalizer", *(f"sink {sink.name}" for sink in SINKS))
ELASTICSEARCH_ACCESS = ("elasticsearch_api_key", "elasticsearch_ca_file")
PERSONAL = ("personal_data", "forget_secret")
STOP_SECONDS = 120.0
"""However busy the machine; a process that hangs takes longer."""

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP that ask again and again: without it each reads all authorities of the machine, 20 ms."""

ABOUT_WHAT_COMES = ('"event": "request"', '"event": "records_refused"')


def free_port() -> int:
    """A loopback port that nobody listens on, and that no other test or stack is given while these tests run."""
    return assign_ports({"PORT": 0}, environment={}, remembered={}, free=True)["PORT"]


class Process:
    """One process of a role. The log goes to a file that a failing test shows.

    `patch` is Python that runs before the role begins.
    """

    def __init__(self, role: str, settings: Settings, log: Path, number: int = 0, patch: str = "") -> None:
        self.role = role
        self._begin = ["-c", f"{patch}\nfrom cli import main\nmain()"] if patch else ["-m", "cli"]
        self._log = log
        self._health = f"http://127.0.0.1:{free_port()}"
        port = self._health.rpartition(":")[2]
        self.url = self._health
        self.environment = environment_of(settings) | {"WORKER_ID": str(number)}
        if role in {"api", "mock-server"}:
            self.environment |= {f"{role.partition('-')[0].upper()}_PORT": port}
            self._health += "/api/health"
        elif role == "dashboard":
            self.environment |= {"DASHBOARD_PORT": port}
            self._health += "/health"
        else:
            self.environment |= {"HEALTH_PORT": port}
            self._health += "/health"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id. The process must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it; does not wait until it is healthy."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._begin, *self.role.split()],
                cwd=PROJECT,
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float = 60.0) -> httpx.Response:
        """What it answers over HTTP."""
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=timeout, trust_env=False, verify=PLAIN)

    def wait_until_healthy(self, within: float = 60.0) -> None:
        """Block until the process itself says so."""
        eventually(self._is_healthy, what=f"{self.role} is healthy; its log:\n{self.log_tail()}", within=within)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """It runs, and is healthy."""
        self.start()
        try:
            self.wait_until_healthy(within=300)
            yield self
        finally:
            self.stop()

    def kill(self) -> None:
        """kill -9."""
        self._send(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._send(signal.SIGTERM)

    def signal(self, number: Signals) -> None:
        """Send a signal and do not wait."""
        os.kill(self.pid, number)

    def log_lines(self) -> int:
        """Number of lines that it has logged, without those about answered requests and refused records."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return sum(not any(event in line for event in ABOUT_WHAT_COMES) for line in lines)

    def log_tail(self, lines: int = 30) -> str:
        """The end of its log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that event. Not for a process whose log is not JSON."""
        return [line for text in self._log.read_text().splitlines() if (line := json.loads(text))["event"] == event]

    def _send(self, number: Signals) -> int:
        process = self._process
        if process is None or process.poll() is not None:
            return process.returncode if process else 0
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(
                f"{self.role} did not stop within {STOP_SECONDS} s; its log:\n{self.log_tail()}"
            ) from None

    def _is_healthy(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"{self.role} ended with {self._process.returncode}:\n{self.log_tail()}")
        return httpx.get(self._health, timeout=5.0, trust_env=False, verify=PLAIN).is_success


class Pipeline:
    """A set of processes on one pipeline's settings; stops them all in the end."""

    def __init__(self, settings: Settings, logs: Path, roles: tuple[str, ...] = WORKERS) -> None:
        self.settings = settings
        self.processes = {role: Process(role, settings, logs / f"{role.replace(' ', '-')}.log") for role in roles}
        if mock := self.processes.get("mock-server"):
            for process in self.processes.values():
                process.environment["MOCK_URL"] = mock.url
        if dashboard := self.processes.get("dashboard"):
            dashboard.environment["API_URL"] = self.processes["api"].url
            self.processes["api"].environment["DASHBOARD_URL"] = dashboard.url

    def __enter__(self) -> Self:
        for process in self.processes.values():
            process.start()
        try:
            for process in self.processes.values():
                process.wait_until_healthy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, role: str) -> Process:
        return self.processes[role]

    def close(self) -> None:
        """Stop all, servers of requests first; raises what the first failure was when all have been stopped."""
        with contextlib.ExitStack() as stack:
            for process in self.processes.values():
                stack.callback(process.stop)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that make a process of ours see these settings."""
    access = {name: getattr(settings, name) for name in (*KAFKA_SECURITY.values(), *ELASTICSEARCH_ACCESS, *PERSONAL)}
    return {name.upper(): _text(value) for name, value in access.items() if value is not None} | {
        "HEADRACE_HOME": str(settings.home),
        "API_ACCESS": settings.api_access,
        "HEADRACE_NAMESPACE": settings.namespace,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "DATABASE_URL": settings.plain_database_url,
        "REDIS_URL": settings.plain_redis_url or "none",
        "ELASTICSEARCH_URL": settings.elasticsearch_url or "none",
        "MOCK_URL": settings.mock_url,
        "LOG_FORMAT": "json",
    }


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
