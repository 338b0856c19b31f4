"""Ends a run of which nearly all records are unreadable: a delimiter is wrong, or it is not the file that was meant."""

from producers.source import SourceBatch, SourceFailed
from runtime.failure_limit import FailureWindow
from runtime.settings import Settings

LONGEST_EXAMPLE = 200


class UnreadableLimit:
    """The window of one run."""

    def __init__(self, source: str, settings: Settings) -> None:
        self._source = source
        self._percent = settings.failure_limit_percent
        self._window = FailureWindow(settings)
        self._first: str | None = None

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
                    f"{(self._first or '')[:LONGEST_EXAMPLE]}. Correct the source, or its block (delimiter, encoding); "
                    "if it really is like that, FAILURE_LIMIT_PERCENT=0 publishes all of it",
                )
        self._window.count(len(problems), len(batch.records))
