"""Runs what is too long for the gate, and writes how it ended into docs/nightly.md.

`make nightly` runs every step, with ARGS="faults compose" these two. The exit code is 1 if a step failed.
"""

import datetime
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.table_rows import with_row

PROJECT = Path(__file__).parents[1]
DOCUMENT = PROJECT / "docs" / "nightly.md"

ATTACKS = [f"tests/integration/test_{name}.py" for name in ("attacks_on_the_api", "slow_clients", "schemathesis")]

STEPS: Mapping[str, Sequence[str]] = {
    "fuzz": ("make", "test", "ARGS=tests/unit --hypothesis-profile=nightly"),
    "attacks": ("make", "test", f"ARGS={' '.join(ATTACKS)} --hypothesis-profile=nightly"),
    "world": ("make", "test-world"),
    "faults": ("make", "test-faults"),
    "compose": ("make", "test-compose"),
    "containers": ("make", "test-containers"),
    "wheels": ("make", "check-wheels"),
}
"""Steps, in the order in which they run."""

HANDED_DOWN = {"ARGS", "MAKEFLAGS", "MAKEOVERRIDES"}
"""From the make above, whose ARGS are the names of the steps, to the make of a step."""

SUMMARY = re.compile(r"^=* ?((?:\d+ \w+(?:, )?)+) in [\d.]+s", re.MULTILINE)
"""pytest's last line."""


@dataclass(frozen=True)
class Ended:
    """Ending of a step. `tests` is pytest's own count."""

    step: str
    day: datetime.date
    ok: bool
    tests: str
    seconds: float

    def row(self) -> str:
        """Its row of the table."""
        verdict = "passed" if self.ok else "FAILED"
        minutes = f"{self.seconds / 60:.0f} min"
        return f"| {self.step} | `{' '.join(STEPS[self.step])}` | {self.day} | {verdict} | {self.tests} | {minutes} |"


def run(step: str) -> Ended:
    """Run a step and show what it prints. Blocking, up to hours."""
    began, lines = time.monotonic(), []
    environment = {name: value for name, value in os.environ.items() if name not in HANDED_DOWN}
    with subprocess.Popen(STEPS[step], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            lines.append(line)
    counts = SUMMARY.findall("".join(lines))
    day = datetime.datetime.now(datetime.UTC).date()
    return Ended(step, day, process.returncode == 0, counts[-1] if counts else "none", time.monotonic() - began)


def main(names: Sequence[str]) -> int:
    """Run these steps, all without names."""
    if unknown := [name for name in names if name not in STEPS]:
        sys.stderr.write(f"no step is called {unknown[0]}; there are: {', '.join(STEPS)}\n")
        return 2
    ended = []
    for step in names or STEPS:
        ended.append(run(step))
        DOCUMENT.write_text(with_row(DOCUMENT.read_text(), step, ended[-1].row()))
    return int(not all(one.ok for one in ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
