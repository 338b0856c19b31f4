"""The client of a real supervisord, over connections that are cut or go silent."""

import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_stack import supervisor as client
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from tests.waiting import eventually

PROGRAMS = "".join(f"[program:{name}]\ncommand=/bin/sleep 60\nautostart=false\n" for name in ("one", "two"))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    state = StateFolder.at(tmp_path)
    state.make()
    state.supervisor_config.write_text(client.render(state, [], [], state.home) + PROGRAMS)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(state.supervisor_config)]
    with subprocess.Popen(command) as process:
        eventually(Supervisor(state).is_running, what="it answers")
        yield state
        process.terminate()


@contextmanager
def answering_once_per_connection(state: StateFolder, *, at_most: int = 1_000) -> Iterator[None]:
    """Cut every connection to the supervisor after one answer; those after the first `at_most` stay silent."""
    behind = state.supervisor_socket.with_name("behind.sock")
    state.supervisor_socket.rename(behind)
    over = threading.Event()
    connections = 0

    class Cutting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            nonlocal connections
            connections += 1
            if connections > at_most:
                over.wait()
                return
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(str(behind))
                for source, target in ((self.rfile, there.makefile("wb")), (there.makefile("rb"), self.wfile)):
                    length = 0
                    while line := source.readline().strip():
                        name, _, value = line.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                        target.write(line + b"\r\n")
                    target.write(b"\r\n" + source.read(length))
                    target.flush()

    class Proxy(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Proxy(str(state.supervisor_socket), Cutting) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield
        finally:
            over.set()
            proxy.shutdown()
            thread.join()
            behind.rename(state.supervisor_socket)


def states(state: StateFolder) -> dict[str, str]:
    return {program.name: program.state for program in Supervisor(state).processes().values()}


def test_a_call_whose_connection_was_dropped_is_made_again(state: StateFolder) -> None:
    with answering_once_per_connection(state):
        Supervisor(state).start_programs(["one", "two"])
        assert set(states(state).values()) <= {"STARTING", "RUNNING"}
        Supervisor(state).stop_programs(["one", "two"])
        assert states(state) == {"one": "STOPPED", "two": "STOPPED"}


def test_a_connection_that_was_opened_again_has_a_time_limit_too(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.5)
    with answering_once_per_connection(state, at_most=1), pytest.raises(TimeoutError):
        Supervisor(state).start_programs(["one", "two"])
