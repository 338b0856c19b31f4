"""What is booked of offsets that carry no record."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.offset_ranges import OffsetRanges
from stores.coverage import joining

offsets = st.sets(st.integers(0, 40))


def ranges(numbers: set[int]) -> OffsetRanges:
    return OffsetRanges((number, number + 1) for number in numbers)


@given(offsets, offsets)
def test_what_is_booked_is_empty_and_never_makes_more_ranges(accounted: set[int], empty: set[int]) -> None:
    booked, before = joining(ranges(accounted), ranges(empty - accounted)), ranges(accounted)
    assert booked.without(ranges(empty - accounted)) == OffsetRanges()
    after = OffsetRanges([*before, *booked])
    assert after.parts() <= before.parts() + (0 in booked)


@given(offsets, offsets)
def test_a_hole_that_is_empty_throughout_is_booked(accounted: set[int], empty: set[int]) -> None:
    top = max(accounted, default=0)
    holes = set(range(top)) - accounted
    booked = joining(ranges(accounted), ranges((empty | holes) - accounted))
    assert ranges(holes).without(booked) == OffsetRanges()
