"""The stack's supervisord: started as a child that outlives us, asked over its unix socket, and read in its log."""

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults

from local_stack.errors import StackError
from local_stack.server import last_lines
from local_stack.state_folder import StateFolder

START_SECONDS = 20.0
ANSWER_SECONDS = 30.0

UMASK = 0o027
"""Files of the stack's processes are closed to other users."""

ALREADY_DONE = frozenset({Faults.ALREADY_STARTED, Faults.NOT_RUNNING, Faults.ALREADY_ADDED})

_EVENT = re.compile(
    r"INFO (?P<spawned>spawned): '(?P<name>[^']+)' with pid (?P<pid>\d+)|(?P<exited>exited): (?P<gone>\S+) "
)


@dataclass(frozen=True)
class ProcessState:
    """The supervisor's word on a program."""

    name: str
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""
    pid: int | None


class Supervisor:
    """The supervisor of one state folder. Making one of these touches nothing."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    def is_running(self) -> bool:
        """True if it answers."""
        try:
            with self._rpc() as rpc:
                rpc.getState()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def require_running(self) -> None:
        """Raises StackError unless it answers."""
        if not self.is_running():
            raise StackError(f"No stack is running in {self._state.home}.", remedy="Start one with: headrace up")

    def process(self) -> psutil.Process | None:
        """The live process in the pid file, if it is a supervisor of this state folder."""
        try:
            process = psutil.Process(int(self._state.supervisor_pid.read_text()))
            ours = str(self._state.supervisor_config) in process.cmdline()
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it with the written configuration and wait until it answers. It starts no program by itself.

        Raises StackError when it dies or stays silent.
        """
        if self._state.supervisor_log.exists():
            self._state.supervisor_log.replace(self._state.supervisor_log.with_suffix(".log.previous"))
        output = self._state.log("supervisord.out")
        command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._state.supervisor_config)]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                umask=UMASK,
                start_new_session=True,  # a Ctrl-C in our terminal is for us to turn into an orderly stop
            )
        try:
            self._wait_until_it_answers(process, output)
        except BaseException:
            process.terminate()
            process.wait()
            raise

    def processes(self) -> list[ProcessState]:
        """Every program; raises OSError when the supervisor is not running."""
        with self._rpc() as rpc:
            rows: Any = rpc.getAllProcessInfo()
        return [ProcessState(str(row["name"]), str(row["statename"]), int(row["pid"]) or None) for row in rows]

    def reload(self) -> None:
        """Take in programs that were added to the configuration; those that run are left as they are."""
        with self._rpc() as rpc:
            answer: Any = rpc.reloadConfig()
            added, _changed, _removed = answer[0]
            for name in added:
                with _done_already():
                    rpc.addProcessGroup(name)

    def start_programs(self, names: Sequence[str]) -> None:
        """Start these programs without waiting for them; those that run are left alone."""
        with self._rpc() as rpc:
            for name in names:
                with _done_already():
                    rpc.startProcess(name, False)

    def stop_programs(self, names: Sequence[str]) -> None:
        """Stop these programs and wait until they have ended (the supervisor kills those that don't)."""
        with self._rpc() as rpc:
            for name in names:
                with _done_already():
                    rpc.stopProcess(name, False)
        while any(p.name in names and (p.pid or p.state == "STOPPING") for p in self.processes()):
            time.sleep(0.05)

    def remove_programs(self, names: Sequence[str]) -> None:
        """Take stopped programs out of the supervisor. Those that it does not know are left out."""
        with self._rpc() as rpc:
            for name in names:
                with _done_already(Faults.BAD_NAME):
                    rpc.removeProcessGroup(name)

    def shutdown(self, timeout_seconds: float = 60.0) -> None:
        """End the supervisor, and with it every program still running. Idempotent; kills it at the timeout."""
        process = self.process()
        with contextlib.suppress(OSError, http.client.HTTPException), self._rpc() as rpc:
            rpc.shutdown()
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            try:
                process.terminate()
                process.wait(timeout_seconds)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], output: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_running():
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                silent = f"The supervisor did not answer within {START_SECONDS:.0f} s."
                raise StackError(
                    silent if code is None else f"The supervisor died at start (exit code {code}).",
                    log_lines=last_lines(output) or last_lines(self._state.supervisor_log),
                    remedy=f"Its configuration is {self._state.supervisor_config}.",
                )
            time.sleep(0.05)

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self._state.supervisor_socket)) as proxy:
            yield proxy.supervisor


@contextmanager
def _done_already(*more: int) -> Iterator[None]:
    try:
        yield
    except xmlrpc.client.Fault as fault:
        if fault.faultCode not in ALREADY_DONE.union(more):
            raise


class _Transport(xmlrpc.client.Transport):
    """Python's own transport, over the supervisor's socket. It repeats a call once whose connection was dropped, which
    is safe with every call above: one that is already done says so, and is passed over.
    """

    def __init__(self, socket_file: Path) -> None:
        super().__init__()
        self._made = _Connection(socket_file)

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        self._connection = host, self._made
        return self._made


class _Connection(http.client.HTTPConnection):
    def __init__(self, socket_file: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._socket_file = socket_file

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._socket_file))


@dataclass(frozen=True)
class History:
    """A program's starts since the supervisor was started, from the supervisor's own log."""

    pids: tuple[int, ...] = ()
    restarts: int = 0
    """Starts that followed an exit nobody had asked for; stopping and starting a program on purpose counts nothing."""


def read_history(log: Path) -> dict[str, History]:
    """Each program's history since the supervisor started (its log is put aside at every start)."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return history_of(lines)
    except FileNotFoundError:
        return {}


def history_of(lines: Iterable[str]) -> dict[str, History]:
    """Each program's history in these lines of a supervisord.log."""
    found: dict[str, History] = {}
    crashed: set[str] = set()
    for line in lines:
        event = _EVENT.search(line)
        if event is None:
            continue
        if event["exited"]:
            crashed.add(event["gone"])
            continue
        name = event["name"]
        known = found.get(name, History())
        found[name] = History((*known.pids, int(event["pid"])), known.restarts + (name in crashed))
        crashed.discard(name)
    return found
