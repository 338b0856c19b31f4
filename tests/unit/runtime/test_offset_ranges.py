"""Offset ranges behave like a set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.offset_ranges import OffsetRanges

offsets = st.integers(min_value=0, max_value=60)


@given(st.lists(offsets))
def test_holds_exactly_the_offsets_that_were_added(added: list[int]) -> None:
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


def test_is_written_as_a_postgres_multirange() -> None:
    assert OffsetRanges([(0, 5), (7, 9)]).multirange() == "{[0,5),[7,9)}"
    assert OffsetRanges().multirange() == "{}"
