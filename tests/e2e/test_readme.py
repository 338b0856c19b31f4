"""The README is true: its tour is run, command by command, on a stack of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import PROJECT
from tests.waiting import eventually

TOUR = re.findall(r"```console\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)


class Shell:
    """A shell as the tour's reader has it: the virtual environment on PATH, a stack of their own running."""

    def __init__(self, home: Path) -> None:
        bin_folder = str(Path(sys.executable).parent)
        self._environment = os.environ | {
            "HEADRACE_HOME": str(home),
            "OBJECT_STORE": "local",
            "OBJECT_STORE_DIR": str(home / "object-store"),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        }
        self._replace: dict[str, str] = {}

    def begin(self) -> None:
        """Start the stack."""
        self.run("headrace up --free-ports")
        api = json.loads(self.run("headrace env --json"))["API_URL"]
        self._replace = {"localhost:8000": api}

    def run(self, command: str) -> str:
        """Run a command of the tour; its output. Fails if the command does."""
        for typed, actual in self._replace.items():
            command = command.replace(typed, actual)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=PROJECT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("readme") / ".headrace")
    try:
        shell.begin()
        yield shell
    finally:
        shell.run("headrace clean --yes")


def shape(value: Any) -> Any:
    """A JSON value with its leaves taken for what they are: the same keys, whatever they hold."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else None


def words(line: str) -> str:
    """A line without what differs from run to run: times, counts, column widths."""
    return " ".join(re.sub(r"[0-9][0-9.,]*", "N", line).split())


def says(printed: str, documented: list[str]) -> bool:
    expected = documented[0]
    if expected.startswith("{"):
        return bool(shape(json.loads(printed)) == shape(json.loads(expected)))
    return words(expected) in [words(line) for line in printed.splitlines()]


@pytest.mark.parametrize("number", range(len(TOUR)))
def test_the_tour_prints_what_the_readme_shows(shell: Shell, number: int) -> None:
    for step in re.split(r"^\$ ", TOUR[number], flags=re.MULTILINE)[1:]:
        command, *documented = step.rstrip().splitlines()
        if command.startswith("curl") and ("/search" in command or "?q=" in command):
            # The index shows what was stored within a second.
            eventually(
                lambda command=command, documented=documented: says(shell.run(command), documented),  # type: ignore[misc]
                what=command,
                within=20,
            )
        else:
            printed = shell.run(command)
            assert says(printed, documented), f"{command}\nprinted:\n{printed}\nREADME:\n{step}"
