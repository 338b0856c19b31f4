"""Starts servers alone, as direct children on free ports: for tests, benchmarks and experiments."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from local_stack.addresses import DEFAULT_PORTS, assign_ports, cluster_ports, make_passwords
from local_stack.errors import StackError
from local_stack.installations import SERVER_NAMES, build_servers, find_installations
from local_stack.log_reading import last_lines
from local_stack.reaper import Reaper, kill_tree
from local_stack.server import Server
from local_stack.unprivileged import delete_data_folder, make_data_folder

START_TIMEOUT_SECONDS = 120.0
"""A loaded 2-core machine starts Elasticsearch in some 20 s."""

STOP_TIMEOUT_SECONDS = 30.0


class RunningServers:
    """Servers that run as children of this process; each keeps its port and data over stops and starts.

    Every method blocks until its effect is there. Not for several threads at once.
    """

    def __init__(self, servers: list[Server], logs: Path, without: Mapping[str, str] | None = None) -> None:
        self.without = without or {}
        """Servers that were asked for and can't be had, and why."""
        self._servers = {server.name: server for server in servers}
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reaper = Reaper()

    @property
    def addresses(self) -> dict[str, str]:
        """The variables under which clients find the servers, as `runtime.settings` reads them."""
        found: dict[str, str] = {}
        for server in self._servers.values():
            found |= server.addresses()
        return found | {f"{name.upper()}_URL": "none" for name in self.without}

    def pid(self, name: str) -> int:
        """The server's process id; KeyError when it is not running."""
        return self._processes[name].pid

    def log(self, name: str) -> Path:
        """The server's log file."""
        return self._logs / f"{name}.log"

    def start(self, *names: str, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Start these servers (all, without names) and wait until each answers. Those that run are left alone.

        Raises StackError, with the server's last log lines, when one dies or does not answer in time.
        """
        self._reaper.start()
        chosen = [self._servers[name] for name in names or self._servers]
        missing = [server for server in chosen if not self._alive(server.name)]
        with ThreadPoolExecutor(len(chosen) or 1) as threads:
            list(threads.map(lambda server: server.prepare(), missing))
            for server in missing:
                self._spawn(server)
            deadline = time.monotonic() + timeout_seconds
            list(threads.map(lambda server: self._wait_until_well(server, deadline), chosen))

    def stop(self, *names: str) -> None:
        """Stop these servers (all, without names) as an operator would: a signal, time to finish, then a kill."""
        running = [name for name in reversed(names or tuple(self._servers)) if name in self._processes]
        for name in running:
            self.resume(name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid(name), signal.Signals[f"SIG{self._servers[name].stop_signal}"])
        for name in running:
            try:
                self._processes[name].wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                kill_tree(self.pid(name))
            self._gone(name)

    def kill(self, name: str) -> None:
        """End the server at once, without a chance to write anything (SIGKILL for it and its children)."""
        kill_tree(self.pid(name))
        self._gone(name)

    def pause(self, name: str) -> None:
        """Freeze the server: its connections stay open and nothing answers."""
        self._signal_tree(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a frozen server go on; nothing happens to one that is not frozen."""
        self._signal_tree(name, signal.SIGCONT)

    def close(self) -> None:
        """Stop all of them. Idempotent."""
        try:
            self.stop()
        finally:
            self._reaper.close()

    def _alive(self, name: str) -> bool:
        process = self._processes.get(name)
        if process is not None and process.poll() is not None:
            self._gone(name)
        return name in self._processes

    def _spawn(self, server: Server) -> None:
        with self.log(server.name).open("ab") as log:
            process = subprocess.Popen(
                server.command(),
                env=os.environ | server.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Every server's user can enter it.
                cwd="/",
                start_new_session=True,
            )
        self._processes[server.name] = process
        self._reaper.watch(process.pid)

    def _wait_until_well(self, server: Server, deadline: float) -> None:
        while (problem := server.problem()) is not None:
            code = self._processes[server.name].poll()
            if code is not None or time.monotonic() > deadline:
                slow = f"{server.name} did not become healthy in time: {problem}."
                raise StackError(
                    slow if code is None else f"{server.name} died at start (exit code {code}).",
                    log_lines=last_lines(self.log(server.name)),
                    remedy=f"Its whole log is {self.log(server.name)}.",
                )
            time.sleep(0.1)

    def _signal_tree(self, name: str, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid(name))
            # The parent first, so that it starts no further child meanwhile.
            process.send_signal(number)
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(number)

    def _gone(self, name: str) -> None:
        process = self._processes.pop(name)
        process.wait()
        self._reaper.forget(process.pid)


@contextmanager
def start_servers(
    home: Path, names: Collection[str] = SERVER_NAMES, *, brokers: int = 1, superuser_password: str | None = None
) -> Iterator[RunningServers]:
    """Run these servers on free ports with their data and logs under `home`, and stop them at the end.

    Kafka is a cluster of `brokers` nodes: kafka, kafka-2, kafka-3. Blocking: some 10 s for all four servers. Raises
    StackError when one can't start; Redis or Elasticsearch are left out, with the reason in `without`, on a machine
    that can't run them. Should this process be killed, the servers are too. Data that is not under `home`, because
    root's servers can't enter that, is deleted at the end.
    """
    home = home.absolute()
    data, logs = home / "data", home / "logs"
    make_data_folder(data)
    logs.mkdir(mode=0o700, exist_ok=True)
    found = find_installations(names, data=data)
    ports = assign_ports(DEFAULT_PORTS | cluster_ports(brokers), environment={}, remembered={}, free=True)
    servers = build_servers(
        found, data.resolve(), ports, make_passwords(), brokers=brokers, superuser_password=superuser_password
    )
    with started(RunningServers(servers, logs, found.without), data) as running:
        yield running


@contextmanager
def started(running: RunningServers, data: Path) -> Iterator[RunningServers]:
    """Start these servers, and stop them at the end. What `data` holds elsewhere, by a link, is deleted then."""
    try:
        running.start()
        yield running
    finally:
        running.close()
        if data.is_symlink():
            delete_data_folder(data)
