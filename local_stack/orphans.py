"""Finds and ends the processes that a killed supervisor left behind, and no others."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from local_stack.installations import is_server
from local_stack.process_status import read_history
from local_stack.reaper import kill_tree
from local_stack.state_folder import StateFolder

SERVER_STOP_SECONDS = 30.0
ROLE_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Orphan:
    """A process that a dead supervisor of this state folder had started."""

    name: str
    process: psutil.Process

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"


def find_orphans(state: StateFolder) -> list[Orphan]:
    """Those that still run. Only asked when no supervisor does.

    A process is ours if the supervisor's log says that it was started with this pid and the process itself shows it,
    since the number may belong to another by now.
    """
    found: list[Orphan] = []
    for name, history in read_history(state.supervisor_log).items():
        for pid in history.pids:
            try:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and _shows(process, name, state):
                    found.append(Orphan(name, process))
            except psutil.Error:
                continue
    return found


def stop_orphans(orphans: Sequence[Orphan]) -> None:
    """End them as the supervisor would have: our processes first, then the servers; a kill for those that stay."""
    _stop([orphan for orphan in orphans if not is_server(orphan.name)], ROLE_STOP_SECONDS)
    _stop([orphan for orphan in orphans if is_server(orphan.name)], SERVER_STOP_SECONDS)


def clear_traces(state: StateFolder) -> list[str]:
    """Remove the pid file and socket of a supervisor that is gone; says what was removed."""
    traces = [path for path in (state.supervisor_pid, state.supervisor_socket) if path.exists()]
    for path in traces:
        path.unlink(missing_ok=True)
    return [path.name for path in traces]


def _shows(process: psutil.Process, name: str, state: StateFolder) -> bool:
    # Redis and Postgres write their title over their arguments and environment, but work in their data folder.
    if Path(process.cwd()).is_relative_to(state.data.resolve()):
        return True
    own = process.environ()
    return own.get("HEADRACE_PROGRAM") == name and own.get("HEADRACE_HOME") == str(state.home)


def _stop(orphans: list[Orphan], timeout_seconds: float) -> None:
    for orphan in orphans:
        number = signal.SIGINT if orphan.name == "postgres" else signal.SIGTERM
        try:
            orphan.process.resume()
            orphan.process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs([orphan.process for orphan in orphans], timeout_seconds)
    for process in alive:
        kill_tree(process.pid)
    psutil.wait_procs(alive, 5)
