"""Tells a process which rehearsals of its stage are running, and which batch or record each of them strikes."""

import random
import time
import zlib
from collections.abc import Callable, Collection

import structlog

from rehearsals.file import Kind, Rehearsal, running
from runtime.fault_points import FaultPoint, arm
from runtime.health import show_in_health
from runtime.metrics import REHEARSALS, REHEARSED_FAILURES
from runtime.settings import Settings

READ_EVERY_SECONDS = 1.0

log = structlog.get_logger()

_here: "dict[str, RehearsalWatch]" = {}


class RehearsalWatch:
    """The rehearsals of one stage. Reads the file when it is asked, once a second at most. `clock` in seconds."""

    def __init__(self, settings: Settings, stage: str, clock: Callable[[], float] = time.time) -> None:
        self._home = settings.home
        self._stage = stage
        self._clock = clock
        self._read_at = 0.0
        self._known: tuple[Rehearsal, ...] = ()

    def active(self) -> tuple[Rehearsal, ...]:
        """Rehearsals that are running now. Logs when one begins or ends."""
        now = self._clock()
        if now - self._read_at >= READ_EVERY_SECONDS:
            self._read_at = now
            self._take(tuple(one for one in running(self._home) if one.stage == self._stage))
        if any(one.ends_at <= now for one in self._known):
            self._take(tuple(one for one in self._known if one.ends_at > now))
        return self._known

    def strikes_batch(self, kind: Kind, sources: Callable[[], Collection[str]] = tuple) -> Rehearsal | None:
        """The rehearsal of that kind that strikes this batch, drawn by its percentage. `sources`: whose records it has.

        A draw, because a batch that comes again after a crash must not meet the same fate for ever.
        """
        for one in self.active():
            concerned = one.kind == kind and (one.source is None or one.source in sources())
            if concerned and drawn(one):
                self.count(one)
                return one
        return None

    def strikes_record(self, source: str | None, partition: int, offset: int) -> Rehearsal | None:
        """The rehearsal that makes this record invalid. A record that comes again meets the same verdict."""
        for one in self.active():
            if one.kind == "invalid" and (one.source is None or one.source == source):
                share = zlib.crc32(f"{one.id}/{partition}/{offset}".encode()) % 10_000
                if share < one.percent * 100:
                    self.count(one)
                    return one
        return None

    def count(self, rehearsal: Rehearsal) -> None:
        REHEARSED_FAILURES.labels(self._stage, rehearsal.kind).inc()

    def _take(self, known: tuple[Rehearsal, ...]) -> None:
        for one in known:
            if one not in self._known:
                log.warning("rehearsal_began", rehearsal=str(one), who=one.who)
        for one in self._known:
            if one not in known:
                log.warning("rehearsal_ended", rehearsal=str(one))
        self._known = known
        REHEARSALS.labels(self._stage).set(len(known))


def drawn(rehearsal: Rehearsal) -> bool:
    """Draw by the rehearsal's percentage."""
    return random.random() * 100 < rehearsal.percent  # noqa: S311 (no secret)


def arm_crash(rehearsal: Rehearsal, point: FaultPoint) -> None:
    """Let the process die when it next comes to that point, and log it."""
    log.warning("rehearsal_crash", rehearsal=str(rehearsal), point=point)
    arm(point)


def watch_for(settings: Settings, stage: str) -> RehearsalWatch | None:
    """The one watch of this process over a stage, shown in its health; None unless REHEARSALS is true."""
    if not settings.rehearsals:
        return None
    show_in_health("rehearsals", _in_words)
    if stage not in _here:
        _here[stage] = RehearsalWatch(settings, stage)
    return _here[stage]


def _in_words() -> list[str]:
    return [str(one) for watch in list(_here.values()) for one in watch.active()]
