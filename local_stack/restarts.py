"""Counts restarts and knows past process ids from the supervisor's own log, which it writes line by line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_EVENT = re.compile(
    r"INFO (?P<spawned>spawned): '(?P<name>[^']+)' with pid (?P<pid>\d+)|(?P<exited>exited): (?P<gone>\S+) "
)


@dataclass(frozen=True)
class History:
    """What the log of one boot of the supervisor tells about a program."""

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
