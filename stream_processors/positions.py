"""The position up to which each partition may be committed: behind the newest batch up to which all is confirmed.

The consumer's own position runs ahead of what is confirmed: it has handed out batches that are still in work. It also
passes what is never handed out (markers of transactions, aborted records, what compaction has left empty), and that
must be committed in the end, or the group would lag by it for ever. So a batch remembers the position right behind it,
and what is passed afterwards without a record belongs to the newest batch. Pure; used on one event loop.
"""

from typing import Generic, TypeVar

Partition = TypeVar("Partition")


class Cut(Generic[Partition]):
    """A batch as it was cut off, and the position right behind it, which may lie behind its last record."""

    __slots__ = ("_partition", "_positions", "confirmed", "position")

    def __init__(self, positions: "Positions[Partition]", partition: Partition, position: int) -> None:
        self._positions = positions
        self._partition = partition
        self.position = position
        self.confirmed = False

    def confirm(self) -> None:
        """All that came out of the batch, and of those before it in its partition, is safe. Idempotent."""
        self.confirmed = True
        self._positions.advance(self._partition, self.position)


class Positions(Generic[Partition]):
    """The positions of one assignment. Batches of a partition are to be confirmed in the order in which they came."""

    def __init__(self) -> None:
        self._newest: dict[Partition, Cut[Partition]] = {}
        self.committable: dict[Partition, int] = {}
        """The next offset to read of each partition in which anything has been confirmed or passed."""

    def cut(self, partition: Partition, position: int) -> Cut[Partition]:
        """A batch is handed out, and the consumer stands at `position` then."""
        cut = self._newest[partition] = Cut(self, partition, position)
        return cut

    def passed(self, partition: Partition, position: int) -> None:
        """The consumer stands at `position`, and has handed out nothing since the newest batch. Idempotent.

        An earlier position than before (the consumer has been sent back) changes nothing.
        """
        if not self.is_open(partition):
            self.advance(partition, position)
        elif position > (newest := self._newest[partition]).position:
            newest.position = position

    def is_open(self, partition: Partition) -> bool:
        """True while the newest batch has not been confirmed."""
        newest = self._newest.get(partition)
        return newest is not None and not newest.confirmed

    def advance(self, partition: Partition, position: int) -> None:
        """Everything before `position` is done."""
        if position > self.committable.get(partition, 0):
            self.committable[partition] = position
