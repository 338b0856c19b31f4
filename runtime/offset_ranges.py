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
        """Add one offset."""
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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __len__(self) -> int:
        """How many offsets are covered (not how many ranges)."""
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
