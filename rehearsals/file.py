"""The file of rehearsals: failures that somebody asked for, each of one stage and for a while.

It lies in HEADRACE_HOME/run and is written whole and renamed, so a process needs no server to learn of a rehearsal.
See decision 0021.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from schemas.sinks import SINKS

STAGES = ("producers", "normalizer", *(sink.name for sink in SINKS))
Kind = Literal["invalid", "crash", "slow", "outage"]

REASON = "rehearsal"
"""The reason code of every failure that was asked for."""

LONGEST_SECONDS = 3600.0

SHARES: dict[Kind, float] = {"invalid": 5.0, "crash": 5.0, "slow": 100.0, "outage": 100.0}
"""Default percentages: of records for `invalid`, of batches otherwise."""


class RefusedRehearsal(Exception):
    """A rehearsal that has no meaning; the message says why, and what can be rehearsed."""


class Rehearsal(msgspec.Struct, frozen=True):
    """One failure that was asked for. Times are in seconds since the epoch."""

    id: str
    stage: str
    kind: Kind
    percent: float
    started_at: float
    ends_at: float
    source: str | None = None
    """Only records of this source, or batches with one; None: all."""
    delay_seconds: float = 0.5
    """Of each slow batch."""
    who: str = ""

    def __str__(self) -> str:
        source = f" of {self.source}" if self.source else ""
        what = "records" if self.kind == "invalid" else "batches"
        ends = datetime.fromtimestamp(self.ends_at, UTC).strftime("%H:%M:%S UTC")
        return f"{self.id}: {self.stage} {self.kind}, {self.percent:g} % of {what}{source}, until {ends}"

    def check(self) -> None:
        """Raises RefusedRehearsal for one that has no meaning."""
        if not 0 < self.percent <= 100:
            raise RefusedRehearsal(f"{self.percent:g} percent: expected more than 0 and at most 100")
        if not 0 < self.ends_at - self.started_at <= LONGEST_SECONDS:
            raise RefusedRehearsal(f"a rehearsal ends by itself, after {LONGEST_SECONDS / 60:g} minutes at most")
        sink = next((sink for sink in SINKS if sink.name == self.stage), None)
        if sink and self.kind == "invalid" and not sink.refusing:
            raise RefusedRehearsal(f"{sink.name} refuses no record: nothing can be invalid there; try --kind outage")
        if sink and self.source and sink.follows_postgres:
            raise RefusedRehearsal(
                f"rows on their way to {self.stage} no longer say which source they came from: leave --source out, "
                "or rehearse an earlier stage"
            )


def file_of(home: Path) -> Path:
    """The path of the file in this state folder."""
    return home / "run" / "rehearsals.json"


def running(home: Path) -> list[Rehearsal]:
    """Rehearsals that have not ended; none if the file is missing or not ours."""
    try:
        kept = msgspec.json.decode(file_of(home).read_bytes(), type=list[Rehearsal])
    except (OSError, ValueError):
        return []
    return [one for one in kept if one.ends_at > time.time()]


def begin(home: Path, rehearsal: Rehearsal) -> None:
    """Add a rehearsal; it replaces one of the same stage, kind and source. Raises RefusedRehearsal, OSError."""
    rehearsal.check()
    alike = (rehearsal.stage, rehearsal.kind, rehearsal.source)
    with _rewritten(home) as kept:
        kept[:] = [*(one for one in kept if (one.stage, one.kind, one.source) != alike), rehearsal]


def end(home: Path, ids: set[str] | None = None) -> list[Rehearsal]:
    """End the rehearsals with these ids (None: all) and return them. Processes know within a second. Raises OSError."""
    if not file_of(home).exists():
        return []
    with _rewritten(home) as kept:
        ended = [one for one in kept if ids is None or one.id in ids]
        kept[:] = [one for one in kept if one not in ended]
    return ended


@contextmanager
def _rewritten(home: Path) -> Iterator[list[Rehearsal]]:
    """Those that are running; the file is written of the list as it is changed in here. One process at a time."""
    file = file_of(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = running(home)
        yield kept
        written = file.with_suffix(".new")
        try:
            written.write_bytes(msgspec.json.encode(kept))
            written.replace(file)
        finally:
            written.unlink(missing_ok=True)
