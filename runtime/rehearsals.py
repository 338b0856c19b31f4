"""Rehearsals: failures that somebody asked for, of one stage, for a while. Who keeps them, and how they are read.

They lie in a small file in HEADRACE_HOME/run, written whole and renamed, so that a process needs no server to learn
of one. What a process makes of it is in `runtime/rehearsal_watch.py`. See decision 0021.
"""

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

Stage = Literal["producers", "normalizer", "postgres", "elasticsearch", "redis"]
Kind = Literal["invalid", "crash", "slow", "outage"]

REASON = "rehearsal"
"""The reason code of every failure that was asked for."""

LONGEST_SECONDS = 3600.0

SHARES: dict[Kind, float] = {"invalid": 5.0, "crash": 5.0, "slow": 100.0, "outage": 100.0}
"""Percent where nothing is said: of records for `invalid`, of batches otherwise."""


class RefusedRehearsal(Exception):
    """It cannot be rehearsed; the message says why, and what can."""


class Rehearsal(msgspec.Struct, frozen=True):
    """One failure that was asked for. Times are in seconds since the epoch."""

    id: str
    stage: Stage
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
        """Raises RefusedRehearsal for what has no meaning."""
        if not 0 < self.percent <= 100:
            raise RefusedRehearsal(f"{self.percent:g} percent: expected more than 0 and at most 100")
        if not 0 < self.ends_at - self.started_at <= LONGEST_SECONDS:
            raise RefusedRehearsal(f"a rehearsal ends by itself, after {LONGEST_SECONDS / 60:g} minutes at most")
        if self.kind == "invalid" and self.stage == "redis":
            raise RefusedRehearsal("redis takes versions, not records: nothing can be invalid there; try --kind outage")
        if self.source and self.stage in ("elasticsearch", "redis"):
            raise RefusedRehearsal(
                f"rows on their way to {self.stage} no longer say which source they came from: leave --source out, "
                "or rehearse an earlier stage"
            )


def file_of(home: Path) -> Path:
    """Where the rehearsals of this state folder are kept."""
    return home / "run" / "rehearsals.json"


def running(home: Path) -> list[Rehearsal]:
    """Those that have not ended. A file that is not there, or no file of ours, holds none."""
    try:
        kept = _decode(file_of(home).read_bytes())
    except (OSError, ValueError):
        return []
    return [one for one in kept if one.ends_at > time.time()]


def begin(home: Path, rehearsal: Rehearsal) -> None:
    """Let it run; it takes the place of one of the same stage, kind and source. Raises RefusedRehearsal, OSError."""
    rehearsal.check()

    def added(kept: list[Rehearsal]) -> list[Rehearsal]:
        alike = (rehearsal.stage, rehearsal.kind, rehearsal.source)
        return [*(one for one in kept if (one.stage, one.kind, one.source) != alike), rehearsal]

    _change(home, added)


def end(home: Path, ids: set[str] | None = None) -> list[Rehearsal]:
    """End those with these ids, all if None; returns them. Processes know within a second. Raises OSError."""
    ended: list[Rehearsal] = []

    def without(kept: list[Rehearsal]) -> list[Rehearsal]:
        ended.extend(one for one in kept if ids is None or one.id in ids)
        return [one for one in kept if one not in ended]

    if file_of(home).exists():
        _change(home, without)
    return ended


def _change(home: Path, change: Callable[[list[Rehearsal]], list[Rehearsal]]) -> None:
    file = file_of(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        written = file.with_suffix(".new")
        try:
            written.write_bytes(msgspec.json.encode(change(running(home))))
            written.replace(file)
        finally:
            with suppress(FileNotFoundError):
                written.unlink()


_decode = msgspec.json.Decoder(list[Rehearsal]).decode
