"""The normalizer's counts, for Prometheus (`/metrics`) and for its own health."""

from runtime.instruments import BoundedLabels
from runtime.metrics import UNKNOWN_FIELDS


class UnknownFields:
    """Counts unknown fields under a bounded number of labels."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._labels = BoundedLabels()

    def count(self, names: dict[str, int]) -> list[str]:
        """Count {field: records}; returns the names never seen before, which are worth a line in the log."""
        new = []
        for name, records in names.items():
            known = name in self._labels
            label = self._labels.of(name)
            if not known and label == name:
                new.append(name)
            UNKNOWN_FIELDS.labels(self._dataset, label).inc(records)
        return sorted(new)


class Counts:
    """Counts since the start. Read from the health thread."""

    def __init__(self) -> None:
        self.records_in = 0
        self.records_out = 0
        self.records_failed = 0
        self.holding: dict[str, dict[str, str]] = {}
        """By dataset, the sources whose records are held, and why. Replaced, never mutated."""

    def confirmed(self, clean: int, failed: int) -> None:
        self.records_out += clean
        self.records_failed += failed
