"""Samples of the broker: what every group has committed, and what the partitions hold, at one moment.

Small and plain, since a window of them is kept in Postgres and handed from process to process.
"""

import msgspec


class PartitionSample(msgspec.Struct, frozen=True, array_like=True):
    """A group's position in one partition, and what the partition held just after."""

    partition: int
    committed: int | None
    """The next offset that the group will read; None before its first commit."""
    begin: int
    """The first offset that the partition still holds."""
    end: int
    """The last stable offset: the next to be written, or the first record of a transaction that is open."""
    top: int
    """The high watermark: what lies behind `end` is written and waits for an open transaction."""
    waiting: int | None = None
    """Records between position and end, counted by reading them; None where that gap was not read to its end."""
    waits_since: float | None = None
    """Timestamp of the record that the group reads next, in seconds since the epoch; None where it was not read."""
    held_since: float | None = None
    """Arrival of the first record of the open transaction that holds what lies behind `end`; None: not known."""
    member: str | None = None
    """The member of the group that reads it, and its host; None where nobody does, or where that is not known."""

    @property
    def position(self) -> int:
        """The next offset that can be read: a partition forgets records by retention, whoever has not read them."""
        return max(self.committed or 0, self.begin)

    @property
    def lag(self) -> int:
        """Offsets from the position to the end. Read at different moments, so clamped at 0."""
        return max(0, self.end - self.position)

    @property
    def behind(self) -> int:
        """Records that wait: counted where that was possible, otherwise as many as there are offsets."""
        return self.lag if self.waiting is None else self.waiting


class GroupSample(msgspec.Struct, frozen=True, array_like=True):
    """One consumer group."""

    state: str
    """As the broker says: Stable, Empty, Dead, PreparingRebalance, …; Dead also for a group that it does not know."""
    topics: dict[str, list[PartitionSample]]
    """By physical name, partitions in order. Only topics that exist."""
    gone: list[str] = []
    """Topics that the group has commits of and that exist no more."""

    @property
    def has_members(self) -> bool:
        return self.state not in ("Empty", "Dead")


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """All groups at one moment."""

    at: float
    """Seconds since the epoch."""
    groups: dict[str, GroupSample] | None
    """By physical name; None when the broker did not answer: nobody can commit then, so nobody is to blame."""
