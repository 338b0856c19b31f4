"""Coverage of offsets that carry no record."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.offset_ranges import OffsetRanges
from stores.coverage import joining

offsets = st.sets(st.integers(0, 40))


def ranges(numbers: set[int]) -> OffsetRanges:
    return OffsetRanges((number, number + 1) for number in numbers)


@given(offsets, offsets)
def test_only_empty_offsets_are_covered_as_void_and_they_add_no_ranges(accounted: set[int], empty: set[int]) -> None:
    covered, before = joining(ranges(accounted), ranges(empty - accounted)), ranges(accounted)
    assert covered.without(ranges(empty - accounted)) == OffsetRanges()
    after = OffsetRanges([*before, *covered])
    assert after.parts() <= before.parts() + (0 in covered)


@given(offsets, offsets)
def test_a_hole_of_nothing_but_empty_offsets_is_covered(accounted: set[int], empty: set[int]) -> None:
    top = max(accounted, default=0)
    holes = set(range(top)) - accounted
    covered = joining(ranges(accounted), ranges((empty | holes) - accounted))
    assert ranges(holes).without(covered) == OffsetRanges()
