"""Checks of a run's records as a whole: nearly all unreadable ends the run, keys that repeat are a warning."""

from itertools import chain
from typing import Final

from producers.source import SourceBatch, SourceDescription, SourceFailed
from runtime.failure_limit import FailureWindow
from runtime.settings import Settings
from schemas.source_kinds import repeats_keys

LONGEST_EXAMPLE = 200

MOST_KEPT: Final = 65_536
"""Hashes that are kept: 6 MB."""

FEWEST: Final = 20
"""Records that it takes to wonder: somebody who pushes three versions of one knows what he does."""


class UnreadableLimit:
    """Ends a run of which nearly all records are unreadable: a delimiter is wrong, or the file is another one."""

    def __init__(self, source: str, settings: Settings) -> None:
        self._source = source
        self._percent = settings.failure_limit_percent
        self._window = FailureWindow(settings)
        self._first = ""

    def judge(self, batch: SourceBatch) -> None:
        """Count a batch that is about to be sent. Raises SourceFailed if it must not be."""
        problems = [record.problem for record in batch.records if record.problem is not None]
        if problems:
            self._first = self._first or problems[0]
            if self._window.reaches_limit(len(problems), len(batch.records)):
                failed, records = self._window.failed + len(problems), self._window.records + len(batch.records)
                raise SourceFailed(
                    self._source,
                    f"{failed:,} of the latest {records:,} records cannot be read, and FAILURE_LIMIT_PERCENT is "
                    f"{self._percent}; the run has ended before it made more failures. The first problem was: "
                    f"{self._first[:LONGEST_EXAMPLE]}. Correct the source, or its block (delimiter, encoding); "
                    "if it really is like that, FAILURE_LIMIT_PERCENT=0 publishes all of it",
                )
        self._window.count(len(problems), len(batch.records))


class DistinctKeys:
    """Counts different keys: exactly up to MOST_KEPT, and beyond to about one in a hundred, in bounded memory.

    Of many keys those are kept whose hashes end in so many zeros, and stand for the others.
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._mask = 0
        self.records = 0

    def add(self, key: str | None) -> None:
        """Count a record. One without a key becomes a failure, and takes nobody's place."""
        if key is None:
            return
        self.records += 1
        number = hash(key)
        if not number & self._mask:
            self._kept.add(number)
            if len(self._kept) > MOST_KEPT:
                self._mask = 2 * self._mask + 1
                self._kept = {kept for kept in self._kept if not kept & self._mask}

    @property
    def distinct(self) -> int:
        """The number of different keys, nearly."""
        return len(self._kept) * (self._mask + 1)

    @property
    def repeat(self) -> bool:
        """True if more than half of the records repeat the key of another."""
        return self.records >= FEWEST and 2 * self.distinct < self.records


def repeated_keys(source: SourceDescription, keys: DistinctKeys) -> str | None:
    """A warning about keys that can hardly be meant as such. Pure."""
    if not keys.repeat or repeats_keys(source.kind):
        return None
    columns = ", ".join(chain(*source.columns_of_key().values()))
    return (
        f"{keys.records:,} records have {keys.distinct:,} different keys, so most take another's place: is the key "
        f"({columns}) unique? `key` in the block, or `publish csv --key a,b`, takes several columns"
    )
