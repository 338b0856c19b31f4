"""What a stage asks about rehearsals: is one running, and does it strike this batch or this record.

Nothing of it is built, and no stage is wrapped, unless REHEARSALS is true.
"""

import random
import time
import zlib
from collections.abc import Callable, Collection

import structlog
from prometheus_client import Counter, Gauge

from runtime.rehearsals import Kind, Rehearsal, Stage, running
from runtime.settings import Settings

LOOK_SECONDS = 1.0
"""Between two looks at the file."""

ACTIVE = Gauge("headrace_rehearsals_active", "Rehearsals of this process's stage that are running", ["stage"])
INJECTED = Counter("headrace_rehearsal_injected", "Failures that were asked for", ["stage", "kind"])

log = structlog.get_logger()

_here: "dict[Stage, RehearsalWatch]" = {}


class RehearsalWatch:
    """The rehearsals of one stage. Looks at the file when it is asked, once a second at most. `clock` in seconds."""

    def __init__(self, settings: Settings, stage: Stage, clock: Callable[[], float] = time.time) -> None:
        self._home = settings.home
        self._stage = stage
        self._clock = clock
        self._looked_at = 0.0
        self._known: tuple[Rehearsal, ...] = ()

    def active(self) -> tuple[Rehearsal, ...]:
        """Those that are running now. Logs when one begins or ends."""
        now = self._clock()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
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
            if concerned and random.random() * 100 < one.percent:  # noqa: S311 (no secret)
                INJECTED.labels(self._stage, kind).inc()
                return one
        return None

    def strikes_record(self, source: str | None, partition: int, offset: int) -> Rehearsal | None:
        """The rehearsal that makes this record invalid. A record that comes again meets the same verdict."""
        for one in self.active():
            if one.kind == "invalid" and (one.source is None or one.source == source):
                drawn = zlib.crc32(f"{one.id}/{partition}/{offset}".encode()) % 10_000
                if drawn < one.percent * 100:
                    INJECTED.labels(self._stage, one.kind).inc()
                    return one
        return None

    def _take(self, known: tuple[Rehearsal, ...]) -> None:
        for one in known:
            if one not in self._known:
                log.warning("rehearsal_began", rehearsal=str(one), who=one.who)
        for one in self._known:
            if one not in known:
                log.warning("rehearsal_ended", rehearsal=str(one))
        self._known = known
        ACTIVE.labels(self._stage).set(len(known))


def watch_for(settings: Settings, stage: Stage) -> RehearsalWatch | None:
    """The one watch of this process over a stage; None unless REHEARSALS is true: then there is nothing to wrap."""
    if not settings.rehearsals:
        return None
    if stage not in _here:
        _here[stage] = RehearsalWatch(settings, stage)
    return _here[stage]


def shown_in_health() -> list[str] | None:
    """The rehearsals that run in this process, in words; None if it would not notice any."""
    return [str(one) for watch in list(_here.values()) for one in watch.active()] if _here else None
