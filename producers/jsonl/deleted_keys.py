"""Keys to delete, one a line or given directly: each becomes a record without a value, Kafka's tombstone."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from producers.background_reader import read_in_background
from producers.jsonl.form import not_keys
from producers.jsonl.source import Lines
from producers.source import SourceBatch, SourceDescription, SourceFailed, SourceRecord


@dataclass(frozen=True)
class DeletedKeysSource:
    """Deletes records by their keys, as `CUST001` or `titanic:17`; implements Source.

    What is no key of the dataset is published too: the normalizer rejects it, and it is accounted for.
    """

    description: SourceDescription
    keys: Lines | tuple[str, ...]

    def __post_init__(self) -> None:
        description = replace(self.description, content_type="application/octet-stream")
        object.__setattr__(self, "description", description)

    def batches(self) -> AsyncIterator[SourceBatch]:
        """Batches of tombstones. Implements Source.batches."""
        return read_in_background(self.read)

    def read(self) -> Iterator[SourceBatch]:
        """The same, blocking. Raises SourceFailed."""
        if isinstance(self.keys, tuple):
            yield SourceBatch([self._record(key) for key in self.keys], 1.0)
            return
        begun = False
        for lines, done in self.keys.read(self.description.name):
            if lines and not begun and (what := not_keys(lines[0])):
                raise SourceFailed(self.description.name, f"{self.keys.path}: {what}; nothing is deleted")
            begun = begun or bool(lines)
            yield SourceBatch([self._record(line.decode("utf-8", "replace").strip()) for line in lines], done)

    def _record(self, key: str) -> SourceRecord:
        """In the normal form, so that a delete comes to the partition of the records that it follows."""
        with suppress(ValueError):
            key = self.description.dataset.normal_key(key)
        return SourceRecord(None, key)
