"""Kills what its parent started, should the parent die without doing so itself (kill -9, a crashed test run).

Run as a program with a pipe on standard input: `+PID` and `-PID` lines say which process groups are in its care; at
the end of the input it kills those that are left.
"""

import contextlib
import os
import signal
import subprocess
import sys
from typing import Self

import psutil


class Reaper:
    """The parent's side."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process; idempotent."""
        if self._process is None:
            # In a session of its own, so that a Ctrl-C meant for the parent doesn't end it first.
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
        return self

    def watch(self, pid: int) -> None:
        """Take the process group into its care."""
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """The process group has ended, and its number may be given to another."""
        self._tell(f"-{pid}")

    def close(self) -> None:
        """End the process, which kills the groups still in its care. Idempotent."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            print(line, file=self._process.stdin, flush=True)


def kill_tree(pid: int) -> None:
    """Kill a process and all that descend from it, also those in sessions of their own (Postgres's backends)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


def _reap() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    in_care: set[int] = set()
    for line in sys.stdin:
        if line.startswith("+"):
            in_care.add(int(line[1:]))
        else:
            in_care.discard(int(line[1:]))
    for pid in in_care:
        kill_tree(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    _reap()
