"""Instruments of runtime/metrics.py: each declared once, and exposed by the roles that it names.

The hot paths have instruments of their own, since those of prometheus_client take a lock and look their labels up: a
batch's values at once cost 0.16 µs each, one by one 1.8.
"""

from bisect import bisect_left, bisect_right
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import TypeVar

import prometheus_client
from prometheus_client import REGISTRY, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the lines, and nobody reads them

MAX_LABELS = 100
"""Names that come from outside: beyond this many they are counted as OTHER."""

OTHER = "(other)"

C = TypeVar("C", bound=Collector)


@dataclass(frozen=True)
class Declared:
    """One metric of the registry. `name` without `_total`, `_bucket` and the like."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    """The processes that expose it."""
    collector: Collector

    @property
    def samples(self) -> tuple[str, ...]:
        """The names that a query may use."""
        match self.kind:
            case "counter":
                return (f"{self.name}_total",)
            case "histogram":
                return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


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


class Tally(Collector):
    """A counter whose `inc` costs a dictionary's entry. Counted in one thread, read in any."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._described = name, meaning, labels
        self._counts: Counts[tuple[str, ...]] = Counts()

    def inc(self, labels: tuple[str, ...], number: int = 1) -> None:
        """Count under these values of the labels."""
        self._counts[labels] += number

    def describe(self) -> Iterable[Family]:
        return [CounterMetricFamily(*self._described[:2], labels=self._described[2])]

    def collect(self) -> Iterable[Family]:
        family = CounterMetricFamily(*self._described[:2], labels=self._described[2])
        for labels, number in list(self._counts.items()):
            family.add_metric(labels, number)
        return [family]


def _bound(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


class Buckets:
    """The observations under one set of labels. Observed in one thread, read in any."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Add one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: list[float]) -> None:
        """Add many at once; sorts the list."""
        values.sort()
        below = 0
        for place, bound in enumerate(self._bounds):
            upto = bisect_right(values, bound, below)
            self._counts[place] += upto - below
            below = upto
        self._counts[-1] += len(values) - below
        self._sum += sum(values)

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulated counts by upper bound, and the sum."""
        bounds = [*map(_bound, self._bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum


class BulkHistogram(Collector):
    """A histogram that takes a batch's values at once."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str], bounds: tuple[float, ...]) -> None:
        self._described = name, meaning, labels
        self._bounds = bounds
        self._buckets: dict[tuple[str, ...], Buckets] = {}

    def labels(self, *values: str) -> Buckets:
        """The observations under these values of the labels."""
        found = self._buckets.get(values)
        return self._buckets.setdefault(values, Buckets(self._bounds)) if found is None else found

    def describe(self) -> Iterable[Family]:
        return [HistogramMetricFamily(*self._described[:2], labels=self._described[2])]

    def collect(self) -> Iterable[Family]:
        family = HistogramMetricFamily(*self._described[:2], labels=self._described[2])
        for labels, buckets in list(self._buckets.items()):
            family.add_metric(labels, *buckets.read())
        return [family]


def from_zero(metric: prometheus_client.Counter | Tally | BulkHistogram, *values: Iterable[str]) -> None:
    """Show a series at 0 for each combination of these values of its labels, in their order. Idempotent.

    For the start of a role, before anything can be counted: a series that is born with its first event has not grown
    by it, so `rate` and `increase` see nothing of the event that is often the only one.
    """
    for labels in product(*values):
        if isinstance(metric, Tally):
            metric.inc(labels, 0)
        else:
            metric.labels(*labels)


class Snapshot(Collector):
    """A gauge whose samples are read when somebody asks: `source` gives all of them, each labels and value."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._described = name, meaning, labels
        self.source: Callable[[], Iterable[tuple[tuple[str, ...], float]]] = tuple

    def describe(self) -> Iterable[Family]:
        return [GaugeMetricFamily(*self._described[:2], labels=self._described[2])]

    def collect(self) -> Iterable[Family]:
        family = GaugeMetricFamily(*self._described[:2], labels=self._described[2])
        for labels, value in self.source():
            family.add_metric(labels, value)
        return [family]


class Catalogue:
    """Every metric that was declared, in order. Makes the instruments; registers none before `expose`."""

    def __init__(self) -> None:
        self._declared: list[Declared] = []
        self._exposed: set[str] = set()

    def __iter__(self) -> Iterator[Declared]:
        return iter(self._declared)

    def counter(self, roles: tuple[str, ...], name: str, meaning: str, *labels: str) -> prometheus_client.Counter:
        return self._add(
            prometheus_client.Counter(name, meaning, labels, registry=None), "counter", roles, name, meaning, labels
        )

    def gauge(self, roles: tuple[str, ...], name: str, meaning: str, *labels: str) -> prometheus_client.Gauge:
        return self._add(
            prometheus_client.Gauge(name, meaning, labels, registry=None), "gauge", roles, name, meaning, labels
        )

    def tally(self, roles: tuple[str, ...], name: str, meaning: str, *labels: str) -> Tally:
        return self._add(Tally(name, meaning, labels), "counter", roles, name, meaning, labels)

    def histogram(
        self, roles: tuple[str, ...], name: str, meaning: str, *labels: str, bounds: tuple[float, ...]
    ) -> BulkHistogram:
        made = BulkHistogram(name, meaning, labels, bounds)
        return self._add(made, "histogram", roles, name, meaning, labels)

    def snapshot(self, roles: tuple[str, ...], name: str, meaning: str, *labels: str) -> Snapshot:
        return self._add(Snapshot(name, meaning, labels), "gauge", roles, name, meaning, labels)

    def expose(self, role: str) -> None:
        """Have this process's `/metrics` show what a process of this role counts. Idempotent."""
        for one in self._declared:
            if role in one.roles and one.name not in self._exposed:
                self._exposed.add(one.name)
                REGISTRY.register(one.collector)

    def _add(self, made: C, kind: str, roles: tuple[str, ...], name: str, meaning: str, labels: tuple[str, ...]) -> C:
        self._declared.append(Declared(name, kind, meaning, labels, roles, made))
        return made


def exposition(accept: str | None) -> tuple[str, bytes]:
    """Content type and body of `/metrics`, in Prometheus' text format or in OpenMetrics, as the caller accepts it."""
    encoder, content_type = choose_encoder(accept or "")
    return content_type, encoder(REGISTRY)
