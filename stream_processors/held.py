"""Holds the records of sources that are over the failure limit: one that floods must not stop the others.

They are kept as they are, under their coordinates, until they are released.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from runtime.failure_limit import FailureWindow
from runtime.settings import Settings
from schemas.errors import InvalidRecord
from schemas.events import FailedRecord
from schemas.source_headers import MAX_MAPPING_BYTES, SourceHeaders, kept_headers
from stream_processors.normalize import Normalized, RawRecord, Rejected, failed_record, kept_key

Source = bytes | None
"""A source's name as the header has it; None for records without one, which share a window."""

MOST_SOURCES = 200
"""Sources with a window of their own. Names come from outside: further ones share the window of the nameless."""

STALE_SECONDS = 600.0
"""A window that nobody has used for so long makes room for another source."""

REMEDY = (
    "put the mapping, the deploy or the source right, then `headrace failures release --source NAME`, "
    "or `headrace failures discard --source NAME`"
)

_decode = msgspec.json.Decoder(FailedRecord).decode
_encode = msgspec.json.Encoder().encode


class Held(msgspec.Struct, gc=False):
    """A record that is held, encoded, keyed like the original."""

    key: bytes | None
    value: bytes


def may_be_held(headers: SourceHeaders) -> bool:
    """True for a record that counts in the window of its source, and is held with it. Pure.

    What its producer has marked as unreadable says nothing of a mapping or a deploy, and no release would mend it.
    """
    return not headers.problem and len(headers.mapping or b"") <= MAX_MAPPING_BYTES


def held(dataset: str, record: RawRecord, headers: SourceHeaders, outcome: Normalized | Rejected, now_ms: int) -> Held:
    """The record instead of what came of it. Pure. `outcome` says why it would have failed, if it would."""
    if isinstance(outcome, Rejected):
        failed = _decode(outcome.value)
    else:
        verdict = InvalidRecord("held", "the record is valid; it waits with the others of its source")
        failed = failed_record(dataset, record, headers, verdict, now_ms)
    return Held(kept_key(record), _encode(msgspec.structs.replace(failed, held=True, headers=kept_headers(headers))))


class SourceLimits:
    """A window for each source, from its first failure until there is none left in it. Sources without failures cost
    nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._windows: OrderedDict[Source, FailureWindow] = OrderedDict()
        self._used: dict[Source, float] = {}
        self.over: dict[Source, str] = {}
        """Why each source whose records are held is over the limit; gone when no failure is left in its window."""

    def ignores(self, failed: int) -> bool:
        """True if a slice with so many failures needs no look at its sources."""
        return not self._settings.failure_limit_percent or not (failed or self._windows)

    def take(self, counts: Mapping[Source, tuple[int, int]]) -> set[Source]:
        """Count (failed, records) of each source in; returns the sources whose records in hand are to be held."""
        held = set()
        for source, (failed, records) in counts.items():
            name = self._window_of(source, failed)
            window = self._windows.get(name)
            if window is None:
                continue
            window.count(failed, records)
            if window.reaches_limit():
                held.add(source)
                self.over.setdefault(name, f"{window.failed} of its latest {window.records} records failed")
            elif not window.failed:
                self._forget(name)
        return held

    def _window_of(self, source: Source, failed: int) -> Source:
        if failed and source not in self._windows:
            if len(self._windows) >= MOST_SOURCES:
                oldest = next(iter(self._windows))
                if time.monotonic() - self._used[oldest] > STALE_SECONDS:
                    self._forget(oldest)
                else:
                    source = None
            self._windows.setdefault(source, FailureWindow(self._settings))
        elif source not in self._windows and len(self._windows) >= MOST_SOURCES:
            source = None
        if source in self._windows:
            self._windows.move_to_end(source)
            self._used[source] = time.monotonic()
        return source

    def _forget(self, source: Source) -> None:
        del self._windows[source], self._used[source]
        self.over.pop(source, None)
