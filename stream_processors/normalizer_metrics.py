"""The normalizer's counts, for Prometheus (`/metrics`) and for its own health."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("headrace_normalizer_records", "Records by what became of them", ["dataset", "outcome"])
FAILURES = Counter("headrace_normalizer_failures", "Rejected records by reason code", ["dataset", "reason"])
FAILURE_LIMIT = Gauge(
    "headrace_normalizer_failure_limit_reached", "1 while records of a source of the dataset are held", ["dataset"]
)
UNKNOWN_FIELDS = Counter(
    "headrace_normalizer_unknown_fields", "Records with a field that the dataset does not have", ["dataset", "field"]
)
BATCH_RECORDS = Histogram(
    "headrace_normalizer_batch_records",
    "Records per batch",
    ["dataset"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
)

MAX_LABELS = 100
"""Field names and producers' reasons come from outside: beyond this many per dataset they are counted as `(other)`."""

OTHER = "(other)"


class BoundedLabels:
    """Labels for names that come from outside."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, name: str) -> str:
        """The name itself, or OTHER when there are too many."""
        if name not in self._seen and len(self._seen) < MAX_LABELS:
            self._seen.add(name)
        return name if name in self._seen else OTHER

    def __contains__(self, name: str) -> bool:
        return name in self._seen


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
