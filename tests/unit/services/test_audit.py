"""The rules of the audit, without a server."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.audit import verdict
from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from services.audits.audit import PartitionAudit, audit_partition, uncovered
from stores.coverage import PartitionCoverage
from stores.passages import Passage

PLACE = ("customers.raw", 0)


def audited(
    *ranges: tuple[int, int],
    begin: int = 0,
    end: int = 10,
    passed: int = 0,
    settled: bool = True,
    counted: int | None = None,
    void: int = 0,
    held: int = 0,
    evidence: Evidence | None = None,
) -> PartitionAudit:
    """An audit of what is booked; by default everything that is not is read, and carries records."""
    covered = OffsetRanges(ranges)
    coverage = PartitionCoverage(covered, {"inserted": len(covered) - void if counted is None else counted}, void)
    passage = Passage(begin, end, passed, settled, held)
    kept = OffsetRanges([(begin, end)])
    return audit_partition(PLACE, passage, coverage, evidence or Evidence(read=kept, records=kept))


def shown(records: set[int], empty: set[int]) -> Evidence:
    """What the broker shows when offsets 0 to 10 are read."""
    return Evidence(OffsetRanges([(0, 10)]), *(OffsetRanges((n, n + 1) for n in found) for found in (records, empty)))


@given(st.sets(st.integers(0, 30)), st.integers(0, 30))
def test_offsets_that_are_not_covered_are_missing(offsets: set[int], end: int) -> None:
    covered = OffsetRanges((offset, offset + 1) for offset in offsets)
    missing = uncovered(Passage(0, end), PartitionCoverage(covered, {}))
    assert {offset for start, stop in missing for offset in range(start, stop)} == set(range(end)) - offsets


def test_what_is_booked_and_not_in_the_log_is_not_clean() -> None:
    row = audited((0, 10), (12, 15), held=3)
    assert (row.clean, row.beyond, row.covered) == (False, 2, 13)
    assert "2 BOOKED BUT NOT IN KAFKA" in verdict([row])
    assert audited((0, 13), held=3).clean


def test_one_range_to_the_end_is_clean() -> None:
    row = audited((0, 10))
    assert (row.clean, row.covered, row.in_flight, row.holes) == (True, 10, 0, ())


def test_a_record_is_in_flight_while_a_group_lags_and_lost_afterwards() -> None:
    assert audited((0, 3), (5, 7), settled=False).in_flight == 5
    assert audited((0, 3), (5, 7), settled=False).clean
    assert audited((0, 3), (5, 7)).holes == ((3, 5), (7, 10))
    assert not audited((0, 3), (5, 7)).clean


def test_an_offset_that_the_broker_shows_to_be_empty_is_no_record() -> None:
    row = audited((0, 3), evidence=shown({3, 4}, set(range(5, 10))), settled=False)
    assert (row.void, row.in_flight, row.clean) == (5, 2, True)
    row = audited((0, 5), void=2, evidence=shown(set(), set(range(5, 10))))
    assert (row.covered, row.void, row.in_flight, row.holes, row.clean) == (3, 7, 0, (), True)


def test_an_offset_that_was_not_read_is_not_lost() -> None:
    row = audited((0, 3), evidence=Evidence())
    assert (row.in_flight, row.holes, row.clean) == (7, (), True)


def test_an_uncovered_offset_below_the_log_is_expired_once_no_stage_can_bring_it() -> None:
    row = audited((0, 2), begin=5, passed=0, settled=False)
    assert (row.expired, row.in_flight, row.holes, row.clean) == (3, 5, (), False)
    row = audited((0, 2), begin=5, passed=4, settled=False)
    assert (row.expired, row.in_flight, row.clean) == (1, 7, False), "what the normalizer has passed may still come"
    assert audited((0, 2), begin=5, passed=9, settled=False).clean
    row = audited((0, 2), begin=5)
    assert (row.expired, row.holes, row.clean) == (3, ((5, 10),), False)


def test_a_covered_offset_stays_covered_whatever_the_log_still_has() -> None:
    row = audited((0, 10), begin=10)
    assert (row.clean, row.covered, row.expired) == (True, 10, 0)
    assert audited((0, 10), evidence=shown(set(), set())).clean


def test_a_vanished_offset_is_unprovable_once_no_stage_can_bring_it() -> None:
    evidence = shown({8, 9}, {7})
    row = audited((0, 5), evidence=evidence, settled=False)
    assert (row.unprovable, row.void, row.in_flight, row.clean) == (2, 1, 2, False)
    row = audited((0, 5), evidence=evidence, settled=False, passed=6)
    assert (row.unprovable, row.void, row.in_flight, row.clean) == (1, 1, 3, False)
    row = audited((0, 5), evidence=evidence)
    assert (row.unprovable, row.void, row.holes, row.clean) == (2, 1, ((8, 10),), False)


def test_offsets_behind_an_open_transaction_are_neither_lost_nor_unclean() -> None:
    row = audited((0, 10), held=3)
    assert (row.clean, row.held, row.in_flight, row.on_its_way) == (True, 3, 0, 3)


@pytest.mark.parametrize("counted", [9, 11])
def test_counts_that_do_not_add_up_are_not_clean(counted: int) -> None:
    row = audited((0, 10), counted=counted)
    assert not row.balanced
    assert "NOT ADD UP" in verdict([row])


def test_the_verdict_is_one_line() -> None:
    assert verdict([audited((0, 10))]) == (
        "audit: 10 records in 1 partitions, all accounted for (inserted 10); 0 in flight"
    )
    assert verdict([audited((0, 9))]).startswith("audit: 9 records in 1 partitions, 1 LOST (")
    gone = verdict([audited((0, 2), begin=5, evidence=shown({5, 6}, {7, 8})), audited((0, 10), void=1, held=2)])
    assert "3 records" not in gone
    assert "2 LOST, 3 EXPIRED (deleted from Kafka before Postgres had them), 1 UNPROVABLE (vanished" in gone
    assert gone.endswith("0 in flight; 2 held by an open transaction; 3 offsets carry no record")


def test_held_records_are_accounted_for_and_the_audit_is_not_clean() -> None:
    row = dataclasses.replace(audited((0, 10)), outcomes={"inserted": 7, "held": 3})
    assert (row.balanced, row.holes, row.clean) == (True, (), False)
    assert "partitions, 3 HELD (" in verdict([row])
