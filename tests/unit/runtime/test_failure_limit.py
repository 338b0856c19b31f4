import pytest

from runtime.failure_limit import FailureLimit, FailureLimitReached
from runtime.settings import Settings

SETTINGS = Settings(failure_limit_percent=90, failure_limit_records=1000)


def test_a_small_file_of_garbage_alone_goes_to_failures() -> None:
    limit = FailureLimit(SETTINGS)
    for _ in range(3):
        limit.check("customers", 300, 300)


def test_the_batch_with_which_the_limit_is_reached_is_stopped_and_again_when_it_is_tried_again() -> None:
    limit = FailureLimit(SETTINGS)
    limit.check("customers", 999, 999)
    for _ in range(2):
        with pytest.raises(FailureLimitReached, match="1000 of the latest 1000 records of customers failed"):
            limit.check("customers", 1, 1)
    limit.check("customers", 0, 200)


def test_what_was_long_ago_does_not_count() -> None:
    limit = FailureLimit(SETTINGS)
    limit.check("customers", 0, 1000)
    limit.check("customers", 900, 900)
    with pytest.raises(FailureLimitReached):
        limit.check("customers", 10_000, 10_000)
    limit.check("customers", 100, 1000)
    with pytest.raises(FailureLimitReached):
        limit.check("customers", 9_000, 9_000)


def test_datasets_are_judged_apart_and_good_batches_are_never_stopped() -> None:
    limit = FailureLimit(SETTINGS)
    limit.check("records", 999, 999)
    limit.check("customers", 1, 1)
    limit.check("records", 0, 1)


def test_zero_percent_switches_it_off() -> None:
    FailureLimit(Settings(failure_limit_percent=0)).check("customers", 10**6, 10**6)
