"""A run of which nearly everything is unreadable ends before it has made failures of all of it."""

import pytest

from producers.run_checks import UnreadableLimit
from producers.source import SourceBatch, SourceFailed, SourceRecord
from runtime.settings import Settings

GOOD = SourceRecord(b"{}", None)
RAGGED = SourceRecord(b"1,2,3", None, "ragged_row;line 3: 3 columns, expected 2")


def batch(*records: SourceRecord) -> SourceBatch:
    return SourceBatch(list(records), None)


def test_a_run_of_unreadable_records_fails_with_counts_the_first_problem_and_the_way_out() -> None:
    limit = UnreadableLimit("sales", Settings())
    limit.judge(batch(*[GOOD] * 50, *[RAGGED] * 900))
    with pytest.raises(SourceFailed) as failed:
        limit.judge(batch(*[RAGGED] * 100))
    for words in ("sales", "1,000 of the latest 1,050", "ragged_row;line 3: 3 columns", "FAILURE_LIMIT_PERCENT=0"):
        assert words in str(failed.value)


def test_a_small_file_of_garbage_and_a_bad_stretch_of_a_large_one_are_published() -> None:
    limit = UnreadableLimit("sales", Settings())
    limit.judge(batch(*[RAGGED] * 999))
    large = UnreadableLimit("sales", Settings())
    for _ in range(100):
        large.judge(batch(*[RAGGED] * 100, *[GOOD] * 100))


def test_zero_percent_publishes_everything() -> None:
    UnreadableLimit("sales", Settings(failure_limit_percent=0)).judge(batch(*[RAGGED] * 5_000))
