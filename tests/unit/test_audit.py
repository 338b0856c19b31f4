"""The rules of the audit, without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.audit import verdict
from monitoring.audit import PartitionAudit, audit_partition, missing_ranges, settled_partitions
from monitoring.lag import PartitionLag
from runtime.coverage import Books
from runtime.offset_ranges import OffsetRanges
from runtime.settings import Settings

PLACE = ("customers.raw", 0)


def audited(
    *ranges: tuple[int, int], begin: int = 0, end: int = 10, settled: bool = True, counted: int | None = None
) -> PartitionAudit:
    covered = OffsetRanges(ranges)
    books = Books(covered, {"inserted": len(covered) if counted is None else counted})
    return audit_partition(PLACE, begin, end, books, settled=settled)


@given(st.sets(st.integers(0, 30)), st.integers(0, 30))
def test_missing_is_whatever_is_not_covered(offsets: set[int], end: int) -> None:
    covered = OffsetRanges((offset, offset + 1) for offset in offsets)
    missing = {offset for start, stop in missing_ranges(covered, end) for offset in range(start, stop)}
    assert missing == set(range(end)) - offsets


def test_one_range_to_the_end_is_clean() -> None:
    row = audited((0, 10))
    assert (row.clean, row.covered, row.in_flight, row.holes) == (True, 10, 0, ())


def test_what_is_not_covered_is_in_flight_while_a_group_lags_and_lost_afterwards() -> None:
    assert audited((0, 3), (5, 7), settled=False).in_flight == 5
    assert audited((0, 3), (5, 7), settled=False).clean
    assert audited((0, 3), (5, 7)).holes == ((3, 5), (7, 10))
    assert not audited((0, 3), (5, 7)).clean


def test_what_retention_deleted_before_it_was_covered_is_lost_at_once() -> None:
    row = audited((0, 2), begin=5, settled=False)
    assert (row.holes, row.in_flight) == (((2, 5),), 5)


@pytest.mark.parametrize("counted", [9, 11])
def test_counts_that_do_not_add_up_are_not_clean(counted: int) -> None:
    row = audited((0, 10), counted=counted)
    assert not row.balanced
    assert "NOT ADD UP" in verdict([row])


def lag(group: str, topic: str, lag: int) -> PartitionLag:
    return PartitionLag(group, topic, 0, 0, lag, lag)


@pytest.mark.parametrize(
    ("behind", "settled"),
    [
        (None, True),
        ("customers.raw", False),
        ("customers.clean", False),
        ("failures", False),
        ("customers.changed", True),
    ],
)
def test_a_partition_is_settled_when_nobody_before_postgres_lags(behind: str | None, settled: bool) -> None:
    topics = ["customers.raw", "customers.clean", "failures", "customers.changed"]
    rows = [lag("any", topic, 1 if topic == behind else 0) for topic in topics]
    assert (PLACE in settled_partitions(rows, Settings())) is settled


def test_the_verdict_is_one_line() -> None:
    assert verdict([audited((0, 10))]) == (
        "audit: 10 records in 1 partitions, all accounted for (inserted 10); 0 in flight"
    )
    assert verdict([audited((0, 9))]).startswith("audit: 9 records in 1 partitions, 1 LOST")
