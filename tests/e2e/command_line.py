"""`headrace` as a user calls it, with a state folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local_stack.process_status import ProcessStatus
from local_stack.processes import examine
from local_stack.programs import python_path
from local_stack.state_folder import StateFolder
from runtime.settings import Settings, load_settings

UP = ("up", "--free-ports", "--no-ingest")

HANGS_SECONDS = 900
"""No command takes so long on any machine, however busy; `up` has taken 240 s on a machine with 50 others at work."""


@dataclass(frozen=True)
class CommandLine:
    """`headrace` with a state folder of its own."""

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    """Set for every command, besides the inherited ones."""

    def environment(self) -> dict[str, str]:
        return os.environ | {"HEADRACE_HOME": str(self.home), "PYTHONPATH": python_path(), **self.variables}

    def __call__(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(*arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=HANGS_SECONDS,
            check=False,
        )
        assert expect is None or done.returncode == expect, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self.words(*arguments), env=self.environment(), stdout=pipe, stderr=pipe, text=True)

    def status(self) -> dict[str, Any]:
        return {row["name"]: row for row in json.loads(self("status", "--json", expect=None).stdout)}

    def standings(self) -> dict[str, ProcessStatus]:
        """Rows of `status`, asked by this process: a test that waits for it would start another one each time."""
        return {one.name: one for one in examine(StateFolder.at(self.home))}

    def process(self, name: str) -> psutil.Process:
        """The running process of that name."""
        pid = self.standings()[name].pid
        assert pid is not None, f"{name} does not run"
        return psutil.Process(pid)

    def settings(self) -> Settings:
        """Environment of a process that is started in this stack."""
        return load_settings(headrace_home=self.home)

    @staticmethod
    def words(*arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "cli", *arguments]


@contextmanager
def running_stack(home: Path, variables: Mapping[str, str]) -> Iterator[CommandLine]:
    """`headrace` on a stack that has been started and has ingested nothing; nothing of it is left in the end."""
    command_line = CommandLine(home, variables)
    try:
        command_line(*UP)
        yield command_line
    finally:
        command_line("clean", "--yes", expect=None)
