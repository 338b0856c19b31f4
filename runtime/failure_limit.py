"""Stops a stage that is about to send everything to `failures`: more often a bad deploy than bad records."""

from collections import defaultdict, deque

from runtime.errors import Backpressure
from runtime.settings import Settings


class FailureLimitReached(Backpressure):
    """So large a share of the latest records failed that the stage must not go on by itself."""

    state = "failure_limit_reached"
    patience_seconds = 0.0
    longest_wait_seconds = 60.0

    def __init__(self, dataset: str, failed: int, records: int, percent: int) -> None:
        reason = (
            f"{failed} of the latest {records} records of {dataset} failed, and FAILURE_LIMIT_PERCENT is {percent}; "
            "nothing of this has been acknowledged: correct what changed (a deploy, a mapping, the table) and restart, "
            "or restart with FAILURE_LIMIT_PERCENT=0 if the records are to blame"
        )
        super().__init__("the failure limit", reason)


class FailureLimit:
    """Looks back over the latest `failure_limit_records` records of each dataset, in whole batches. Opens nothing."""

    def __init__(self, settings: Settings) -> None:
        self._percent = settings.failure_limit_percent
        self._records = settings.failure_limit_records
        self._batches: defaultdict[str, deque[tuple[int, int]]] = defaultdict(deque)

    def judge(self, dataset: str, failed: int, records: int) -> None:
        """Look at a batch before anything of it is published or stored. Does not count it.

        Raises FailureLimitReached if with it the share of failures reaches the limit.
        """
        batches = self._batches[dataset]
        all_records = records + sum(count for _, count in batches)
        all_failed = failed + sum(count for count, _ in batches)
        enough = all_records >= self._records
        if failed and self._percent and enough and all_failed * 100 >= self._percent * all_records:
            raise FailureLimitReached(dataset, all_failed, all_records, self._percent)

    def count(self, dataset: str, failed: int, records: int) -> None:
        """Count a batch in, once however often it had to be tried."""
        if not records:
            return
        batches = self._batches[dataset]
        batches.append((failed, records))
        all_records = sum(count for _, count in batches)
        while all_records - batches[0][1] >= self._records:
            all_records -= batches.popleft()[1]
