"""Sets of offsets as sorted, disjoint, half-open ranges: small however many records they cover."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator


class OffsetRanges:
    """The offsets of one partition. Adding is O(1) in order, O(n ranges) otherwise; adding twice changes nothing."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in ranges:
            self.add_range(start, end)

    def add(self, offset: int) -> None:
        if self._ranges and self._ranges[-1][1] == offset:
            self._ranges[-1] = (self._ranges[-1][0], offset + 1)
        else:
            self.add_range(offset, offset + 1)

    def add_range(self, start: int, end: int) -> None:
        """Add all offsets in [start, end)."""
        if start >= end:
            return
        left = bisect_left(self._ranges, start, key=lambda r: r[1])
        right = left
        while right < len(self._ranges) and self._ranges[right][0] <= end:
            start = min(start, self._ranges[right][0])
            end = max(end, self._ranges[right][1])
            right += 1
        self._ranges[left:right] = [(start, end)]

    def first_from(self, offset: int) -> tuple[int, int] | None:
        """The first range that has offsets at or after this one, without those before; None if there is none."""
        index = bisect_left(self._ranges, offset + 1, key=lambda r: r[1])
        if index == len(self._ranges):
            return None
        start, end = self._ranges[index]
        return max(start, offset), end

    def within(self, start: int, end: int) -> "OffsetRanges":
        """The offsets that lie in [start, end)."""
        return OffsetRanges((max(first, start), min(last, end)) for first, last in self._ranges)

    def without(self, other: "OffsetRanges") -> "OffsetRanges":
        """The offsets that the other set does not have. Linear in the ranges of both."""
        left, taken = OffsetRanges(), iter(other)
        gap = next(taken, None)
        for start, end in self._ranges:
            while gap is not None and gap[1] <= start:
                gap = next(taken, None)
            while gap is not None and gap[0] < end:
                left.add_range(start, gap[0])
                start = max(start, gap[1])
                if gap[1] >= end:
                    break
                gap = next(taken, None)
            left.add_range(start, end)
        return left

    def common(self, other: "OffsetRanges") -> "OffsetRanges":
        """The offsets that both sets have."""
        return self.without(self.without(other))

    def end(self) -> int:
        """The offset behind the last one; 0 if there is none."""
        return self._ranges[-1][1] if self._ranges else 0

    def parts(self) -> int:
        """The number of ranges."""
        return len(self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __len__(self) -> int:
        """The number of offsets, not of ranges."""
        return sum(end - start for start, end in self._ranges)

    def __contains__(self, offset: int) -> bool:
        index = bisect_left(self._ranges, offset + 1, key=lambda r: r[1])
        return index < len(self._ranges) and self._ranges[index][0] <= offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetRanges) and self._ranges == other._ranges

    def __repr__(self) -> str:
        return f"OffsetRanges({self._ranges})"

    def multirange(self) -> str:
        """The Postgres literal of an int8multirange, e.g. `{[0,5),[7,9)}`."""
        return "{" + ",".join(f"[{start},{end})" for start, end in self._ranges) + "}"
