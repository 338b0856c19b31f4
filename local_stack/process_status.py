"""The status of one process of a stack, whichever way the stack runs, and the history that the supervisor logs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DONE = "done"
"""The state of what was to run once, and has succeeded."""

_EVENT = re.compile(
    r"INFO (?P<spawned>spawned): '(?P<name>[^']+)' with pid (?P<pid>\d+)|(?P<exited>exited): (?P<gone>\S+) "
)


@dataclass(frozen=True)
class ProcessStatus:
    """The word of the supervisor or Docker on a process, and the process's own answer."""

    name: str
    pid: int | None
    state: str
    """running: alive and serving. starting, unhealthy: alive and not serving. Otherwise the supervisor's word:
    backoff (died, will be tried again), stopped, exited, fatal (given up). In containers also: paused, and done."""
    port: int | None
    """None for a container that publishes none."""
    restarts: int
    """Since the stack was started: after it had died, or because it had stalled."""
    watchdog_restarts: int
    """Restarts among these that the watchdog asked for."""
    problem: str | None
    """None when it runs."""
    note: str | None = None
    """Work left undone though it runs: topics that are paused, and why."""
    outdated: str | None = None
    """The part of what is there now that it does not run: code, datasets, settings. No problem, and no work undone."""

    @property
    def is_well(self) -> bool:
        return self.state in ("running", DONE)


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
    for event in filter(None, map(_EVENT.search, lines)):
        if event["exited"]:
            crashed.add(event["gone"])
            continue
        name = event["name"]
        known = found.get(name, History())
        found[name] = History((*known.pids, int(event["pid"])), known.restarts + (name in crashed))
        crashed.discard(name)
    return found
