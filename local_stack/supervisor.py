"""The stack's supervisord: configured, started as a child that outlives us, and asked over its unix socket."""

import contextlib
import http.client
import os
import resource
import shlex
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
from local_stack.log_reading import last_lines
from local_stack.programs import Instance, Tier
from local_stack.server import Server
from local_stack.state_folder import StateFolder

START_SECONDS = 20.0
ANSWER_SECONDS = 30.0

UMASK = 0o027
"""Files of the stack's processes are closed to other users."""

OPEN_FILES = 8192
"""Kafka and Elasticsearch keep a few files open per partition and segment."""

LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3

RETRIES = 100
"""The pause grows by 1 s a try, so a process is tried for more than an hour before it is given up: servers too, since a
disk that is full keeps one from starting until there is room.
"""

ALREADY_DONE = (Faults.ALREADY_STARTED, Faults.NOT_RUNNING, Faults.ALREADY_ADDED)


@dataclass(frozen=True)
class ProcessState:
    """The supervisor's word on a program."""

    name: str
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""
    pid: int | None


class Supervisor:
    """The supervisor of one state folder. Making one of these touches nothing.

    Its methods block, and raise OSError when the supervisor is not running or does not answer within ANSWER_SECONDS.
    """

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
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._state.supervisor_config)],
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

    def processes(self) -> dict[str, ProcessState]:
        """Every program by its name."""
        with self._rpc() as rpc:
            rows: Any = rpc.getAllProcessInfo()
        found = (ProcessState(str(row["name"]), str(row["statename"]), int(row["pid"]) or None) for row in rows)
        return {one.name: one for one in found}

    def reload(self) -> None:
        """Take in programs that were added to the configuration; those that run are left as they are."""
        with self._rpc() as rpc:
            answer: Any = rpc.reloadConfig()
            added, _changed, _removed = answer[0]
            _for_each(added, rpc.addProcessGroup)

    def start_programs(self, names: Sequence[str]) -> None:
        """Start these programs without waiting for them; those that run are left alone."""
        with self._rpc() as rpc:
            _for_each(names, lambda name: rpc.startProcess(name, False))

    def stop_programs(self, names: Sequence[str]) -> None:
        """Stop these programs and wait until they have ended (the supervisor kills those that don't)."""
        with self._rpc() as rpc:
            _for_each(names, lambda name: rpc.stopProcess(name, False))
        while any(p.name in names and (p.pid or p.state == "STOPPING") for p in self.processes().values()):
            time.sleep(0.05)

    def restart_stalled(self, names: Sequence[str]) -> bool:
        """Stop these programs and start them again: some 20 s for those that must be killed.

        False, and nothing is done, while `up`, `down` or `scale` changes the stack, or when nobody answers.
        """
        if self._state.is_being_changed():
            return False
        try:
            self.stop_programs(names)
            self.start_programs(names)
        except (OSError, xmlrpc.client.Fault):
            return False
        return True

    def remove_programs(self, names: Sequence[str]) -> None:
        """Take stopped programs out of the supervisor. Those that it does not know are left out."""
        with self._rpc() as rpc:
            _for_each(names, rpc.removeProcessGroup, Faults.BAD_NAME)

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
        transport = _Transport(self._state.supervisor_socket)
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
            yield proxy.supervisor


def _for_each(names: Iterable[str], call: Any, *fine: int) -> None:
    for name in names:
        try:
            call(name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (*ALREADY_DONE, *fine):
                raise


class _Transport(xmlrpc.client.Transport):
    """Python's own transport, over the supervisor's socket. It repeats a call once whose connection was dropped, which
    is safe with every call above: one that is already done says so, and is passed over.
    """

    def __init__(self, socket_file: Path) -> None:
        super().__init__()
        self._made = _Connection(socket_file)

    def make_connection(self, host: tuple[str, dict[str, str]] | str) -> http.client.HTTPConnection:
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


def render(state: StateFolder, servers: Iterable[Server], instances: Iterable[Instance], folder: Path) -> str:
    """The content of supervisord.conf; our own processes run in `folder`, where sources.toml is looked for.

    Programs are started one tier after the other by `headrace up`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sections: dict[str, dict[str, object]] = {
        "supervisord": {
            "logfile": state.supervisor_log,
            "pidfile": state.supervisor_pid,
            "childlogdir": state.logs,
            "nodaemon": "true",
            "silent": "true",
            "minfds": OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard),
            # Said, so that supervisord doesn't warn about it: servers and roles listen on loopback only.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "unix_http_server": {"file": state.supervisor_socket, "chmod": "0600"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    for server in servers:
        stop = {"stopsignal": server.stop_signal, "stopwaitsecs": 30}
        place = state.data.resolve() / server.name
        sections[f"program:{server.name}"] = _program(state, server, Tier.SERVERS, place) | stop
    for one in instances:
        stop = {"stopsignal": "TERM", "stopwaitsecs": 20}
        sections[f"program:{one.name}"] = _program(state, one, one.role.tier, folder) | stop
    lines = ["; Written by `headrace up`; changes are lost at the next one."]
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{option}={_value(value)}" for option, value in options.items()), ""]
    return "\n".join(lines)


def _program(state: StateFolder, process: Server | Instance, tier: Tier, folder: Path) -> dict[str, object]:
    return {
        "command": " ".join(map(_shell_word, process.command())),
        "directory": folder,
        # The mark tells our processes from others, should a supervisor be killed and leave them behind.
        "environment": {**process.environment(), "HEADRACE_PROGRAM": process.name},
        "priority": tier * 100,
        "autostart": "false",
        "autorestart": "true",
        "startsecs": 2,
        "startretries": RETRIES,
        # The process itself drains and stops its children; only a kill must reach all of them.
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(state.log(process.name)).replace("%", "%%"),  # supervisord expands this one twice
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": LOG_BACKUPS,
    }


def _shell_word(word: str) -> str:
    # As shlex.quote, but for an apostrophe, which that writes with double quotes.
    return "\\'".join(map(shlex.quote, word.split("'")))


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f'{name}="{_value(one)}"' for name, one in value.items())
    text = str(value)
    # supervisord.conf has no way to write these: they end a line, a string or start a comment.
    if "\n" in text or '"' in text or " ;" in text or " #" in text:
        raise StackError(
            f"The path {text!r} can't be written in a supervisor's configuration.",
            remedy="Choose a state folder without quotes, ` ;` and ` #`: HEADRACE_HOME=/some/folder headrace up",
        )
    return text.replace("%", "%%")
