"""Counts the different keys of a run: of records with the same key each takes the place of the one before."""

from typing import Final

from producers.source import SourceDescription
from schemas.fields import FromSource
from schemas.source_kinds import repeats_keys

MOST_KEPT: Final = 65_536
"""Hashes that are kept: 6 MB."""

FEWEST: Final = 20
"""Records that it takes to wonder: somebody who pushes three versions of one knows what he does."""


class DistinctKeys:
    """Counts different keys: exactly up to MOST_KEPT, and beyond to about one in a hundred, in bounded memory.

    Of many keys those are kept whose hashes end in so many zeros, and stand for the others.
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._mask = 0
        self.records = 0

    def add(self, key: str | None) -> None:
        """Count a record. One without a key becomes a failure, and takes nobody's place."""
        if key is None:
            return
        self.records += 1
        number = hash(key)
        if not number & self._mask:
            self._kept.add(number)
            if len(self._kept) > MOST_KEPT:
                self._mask = 2 * self._mask + 1
                self._kept = {kept for kept in self._kept if not kept & self._mask}

    @property
    def distinct(self) -> int:
        """The number of different keys, nearly."""
        return len(self._kept) * (self._mask + 1)

    @property
    def repeat(self) -> bool:
        """True if more than half of the records repeat the key of another."""
        return self.records >= FEWEST and 2 * self.distinct < self.records


def repeated_keys(source: SourceDescription, keys: DistinctKeys) -> str | None:
    """A warning about keys that can hardly be meant as such. Pure."""
    if not keys.repeat or repeats_keys(source.kind):
        return None
    types = {field.name: field.type for field in source.dataset.fields}
    own = [name for name in source.dataset.key if not isinstance(types[name], FromSource)]
    columns = ", ".join(column for name in own for column in source.columns_of(name))
    return (
        f"{keys.records:,} records have {keys.distinct:,} different keys, so most take another's place: is the key "
        f"({columns}) unique? `key` in the block, or `publish csv --key a,b`, takes several columns"
    )
