"""The failure limit: the share of failed records from which a deploy, a mapping or a table is to blame."""

from collections import defaultdict, deque

from runtime.errors import Backpressure
from runtime.settings import Settings


class FailureLimitReached(Backpressure):
    """Too many of the latest records failed: the stage must not go on by itself."""

    state = "failure_limit_reached"
    patience_seconds = 0.0
    longest_wait_seconds = 60.0

    def __init__(self, dataset: str, failed: int, records: int, percent: int) -> None:
        reason = (
            f"{failed} of the latest {records} records of {dataset} failed, and FAILURE_LIMIT_PERCENT is {percent}; "
            "nothing of this has been acknowledged: correct what changed (a deploy, a mapping, the table) and restart "
            "(`headrace restart`), or restart with FAILURE_LIMIT_PERCENT=0 if the records are to blame"
        )
        super().__init__("the failure limit", reason)


class FailureWindow:
    """The latest `failure_limit_records` records of one kind, in whole batches, and how many of them failed."""

    def __init__(self, settings: Settings) -> None:
        self._percent = settings.failure_limit_percent
        self._longest = settings.failure_limit_records
        self._batches: deque[tuple[int, int]] = deque()
        self.failed = 0
        self.records = 0

    def count(self, failed: int, records: int) -> None:
        """Count a batch in, and forget those that are too long ago."""
        if not records:
            return
        self._batches.append((failed, records))
        self.failed, self.records = self.failed + failed, self.records + records
        while self.records - self._batches[0][1] >= self._longest:
            old_failed, old_records = self._batches.popleft()
            self.failed, self.records = self.failed - old_failed, self.records - old_records

    def reaches_limit(self, failed: int = 0, records: int = 0) -> bool:
        """True if the limit is reached with a batch that is not counted yet. Never while there are few records."""
        enough = self.records + records >= self._longest
        share = (self.failed + failed) * 100 >= self._percent * (self.records + records)
        return bool(self._percent) and enough and share


class FailureLimit:
    """A window for each dataset, for a stage that stops when a store refuses nearly everything. Opens nothing."""

    def __init__(self, settings: Settings) -> None:
        self._percent = settings.failure_limit_percent
        self._windows: defaultdict[str, FailureWindow] = defaultdict(lambda: FailureWindow(settings))

    def judge(self, dataset: str, failed: int, records: int) -> None:
        """Judge a batch before anything of it is published or stored, without counting it.

        Raises FailureLimitReached if with it the share of failures reaches the limit.
        """
        window = self._windows[dataset]
        if failed and window.reaches_limit(failed, records):
            raise FailureLimitReached(dataset, window.failed + failed, window.records + records, self._percent)

    def count(self, dataset: str, failed: int, records: int) -> None:
        """Count a batch in, once however often it had to be tried."""
        self._windows[dataset].count(failed, records)
