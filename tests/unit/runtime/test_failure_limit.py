import pytest

from runtime.failure_limit import FailureLimit, FailureLimitReached
from runtime.settings import Settings

SETTINGS = Settings(failure_limit_percent=90, failure_limit_records=1000)


def take(limit: FailureLimit, dataset: str, failed: int, records: int) -> None:
    limit.judge(dataset, failed, records)
    limit.count(dataset, failed, records)


def test_a_small_file_of_garbage_alone_goes_to_failures() -> None:
    limit = FailureLimit(SETTINGS)
    for _ in range(3):
        take(limit, "customers", 300, 300)


def test_the_batch_with_which_the_limit_is_reached_is_stopped_and_again_when_it_is_tried_again() -> None:
    limit = FailureLimit(SETTINGS)
    take(limit, "customers", 999, 999)
    for _ in range(2):
        with pytest.raises(FailureLimitReached, match="1000 of the latest 1000 records of customers failed"):
            take(limit, "customers", 1, 1)
    take(limit, "customers", 0, 200)


def test_a_batch_that_is_tried_again_after_an_outage_is_not_counted_twice() -> None:
    limit = FailureLimit(SETTINGS)
    for _ in range(10):
        limit.judge("customers", 300, 300)


def test_records_before_the_window_do_not_count() -> None:
    limit = FailureLimit(SETTINGS)
    take(limit, "customers", 0, 1000)
    take(limit, "customers", 900, 900)
    with pytest.raises(FailureLimitReached):
        take(limit, "customers", 10_000, 10_000)
    take(limit, "customers", 100, 1000)
    with pytest.raises(FailureLimitReached):
        take(limit, "customers", 9_000, 9_000)


def test_datasets_are_judged_apart_and_good_batches_are_never_stopped() -> None:
    limit = FailureLimit(SETTINGS)
    take(limit, "records", 999, 999)
    take(limit, "customers", 1, 1)
    take(limit, "records", 0, 1)


def test_batches_that_hold_only_repeats_leave_no_trace() -> None:
    limit = FailureLimit(SETTINGS)
    for _ in range(10_000):
        take(limit, "customers", 0, 0)
    assert limit._windows["customers"].records == 0


def test_a_failure_limit_of_zero_percent_is_off() -> None:
    take(FailureLimit(Settings(failure_limit_percent=0)), "customers", 10**6, 10**6)
