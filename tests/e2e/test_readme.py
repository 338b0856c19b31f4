"""The README and the longer tour are true: they are run, command by command, on a stack of their own."""

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

MORE = "…"


def blocks(document: str) -> list[Any]:
    found = re.findall(r"```console\n(.*?)```", (PROJECT / document).read_text(), re.DOTALL)
    return [pytest.param(block, id=f"{Path(document).stem}-{number}") for number, block in enumerate(found)]


TOUR = [*blocks("README.md"), *blocks("docs/tour.md")]


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


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Commands of a block, each with the answer that is shown. A line that ends with `\\` goes on in the next one."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = step.rstrip().splitlines()
        ends = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
        yield "\n".join(lines[: ends + 1]), "\n".join(lines[ends + 1 :])


def parsed(answer: str) -> Any:
    """A shown answer, in which `…` stands for members that are left out."""
    texts_and_dots = rf'"(?:[^"\\]|\\.)*"|{MORE}'
    left_out = f'"{MORE}": null'
    return json.loads(re.sub(texts_and_dots, lambda found: left_out if found[0] == MORE else found[0], answer))


def has_shape(printed: Any, shown: Any) -> bool:
    """The same keys and as many items, whatever the leaves are; more keys where the shown object has a `…`."""
    if isinstance(shown, dict):
        wanted = shown.keys() - {MORE}
        missing, more = wanted - printed.keys(), printed.keys() - wanted
        return not missing and (not more or MORE in shown) and all(has_shape(printed[k], shown[k]) for k in wanted)
    if isinstance(shown, list):
        return len(printed) == len(shown) and all(map(has_shape, printed, shown))
    return not isinstance(printed, dict | list)


RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NUMBER = re.compile(r"[0-9][0-9.,]*")
DURATION = re.compile(r"\bN (ms|s|min|h|d)\b")


def words(line: str) -> str:
    """A line without what differs from run to run: ids, times, counts, column widths."""
    line = NUMBER.sub("N", RUN_ID.sub("N", line))
    return " ".join(re.sub(r"-{2,}", "-", DURATION.sub("N s", line)).split())


def says(printed: str, shown: str) -> bool:
    if shown.startswith("{"):
        return has_shape(json.loads(printed), parsed(shown))
    lines = {words(line) for line in printed.splitlines()}
    return all(words(line) in lines for line in shown.splitlines() if line.strip() != MORE)


@pytest.mark.parametrize("block", TOUR)
def test_the_tour_prints_what_is_shown(shell: Shell, block: str) -> None:
    for command, shown in steps(block):
        if command.startswith("curl") and ("/search" in command or "?q=" in command):
            # The index shows what was stored within a second.
            eventually(
                lambda command=command, shown=shown: says(shell.run(command), shown),  # type: ignore[misc]
                what=command,
                within=20,
            )
        else:
            printed = shell.run(command)
            assert says(printed, shown), f"{command}\nprinted:\n{printed}\nshown:\n{shown}"
