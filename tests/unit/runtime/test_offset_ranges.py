"""Offset ranges behave like a set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.offset_ranges import OffsetRanges

offsets = st.integers(min_value=0, max_value=60)


@given(st.lists(offsets))
def test_a_set_holds_exactly_the_offsets_that_were_added(added: list[int]) -> None:
    ranges = OffsetRanges()
    for offset in added:
        ranges.add(offset)
    assert len(ranges) == len(set(added))
    assert {offset for offset in range(62) if offset in ranges} == set(added)


@given(st.lists(st.tuples(offsets, offsets)))
def test_ranges_stay_sorted_and_apart(added: list[tuple[int, int]]) -> None:
    ranges = OffsetRanges(added)
    held = list(ranges)
    assert all(start < end for start, end in held)
    assert all(end < start for (_, end), (start, _) in pairwise(held))
    expected = {offset for start, end in added for offset in range(start, end)}
    assert {offset for start, end in held for offset in range(start, end)} == expected


@given(st.lists(st.tuples(offsets, offsets)))
def test_the_order_of_adding_does_not_matter(added: list[tuple[int, int]]) -> None:
    assert OffsetRanges(added) == OffsetRanges(reversed(added))


@given(st.lists(st.tuples(offsets, offsets)), st.lists(st.tuples(offsets, offsets)), offsets, offsets)
def test_ranges_are_cut_and_subtracted_as_sets_of_offsets_are(
    some: list[tuple[int, int]], others: list[tuple[int, int]], start: int, end: int
) -> None:
    one, other = OffsetRanges(some), OffsetRanges(others)
    held, taken = numbers(one), numbers(other)
    assert numbers(one.without(other)) == held - taken
    assert numbers(one.common(other)) == held & taken
    assert numbers(one.within(start, end)) == held & set(range(start, end))
    assert one.without(other) == OffsetRanges((offset, offset + 1) for offset in held - taken), "and they stay merged"
    assert one.end() == max(held, default=-1) + 1
    first = one.first_from(start)
    assert (first and first[0]) == min((offset for offset in held if offset >= start), default=None)
    assert first is None or set(range(*first)) <= held


def numbers(ranges: OffsetRanges) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


def test_ranges_are_written_as_a_postgres_multirange() -> None:
    assert OffsetRanges([(0, 5), (7, 9)]).multirange() == "{[0,5),[7,9)}"
    assert OffsetRanges().multirange() == "{}"
