"""Shows the monitor's view and its alarms as metrics: read when somebody scrapes, set by nobody."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from monitoring.verdicts import Verdict
from monitoring.view import GroupView, PartitionView, SystemLag
from runtime import metrics
from runtime.instruments import Snapshot
from services.alarms.alarms import Alarms

CLUSTER = "kafka"
"""The value of `cluster_name`: there is one cluster."""

Samples = Iterable[tuple[tuple[str, ...], float]]


class LagMetrics:
    """`take` is one of the monitor's listeners. Until it has been called, and while Kafka is away, no lag is shown."""

    def __init__(self, alarms: Alarms) -> None:
        self._view: SystemLag | None = None
        by_view: dict[Snapshot, Callable[[SystemLag], Samples]] = {
            metrics.KAFKA_LAG: lambda view: _each(view, lambda row: row.lag, _exporter),
            metrics.KAFKA_LAG_SUM: lambda view: (
                ((group.group, group.group, topic.topic), topic.lag) for group in view.groups for topic in group.topics
            ),
            metrics.KAFKA_COMMITTED: lambda view: _each(view, lambda row: row.committed, _exporter),
            metrics.KAFKA_END: lambda view: _ends(view, lambda row: row.end),
            metrics.KAFKA_BEGIN: lambda view: _ends(view, lambda row: row.begin),
            metrics.KAFKA_GROUP_LAG: lambda view: _each(view, lambda row: row.lag, _clustered),
            metrics.KAFKA_GROUP_LAG_SECONDS: lambda view: _each(view, lambda row: row.seconds, _clustered),
            metrics.KAFKA_GROUP_OFFSET: lambda view: _each(view, lambda row: row.committed, _clustered),
            metrics.KAFKA_GROUP_TOPIC_SUM_LAG: lambda view: (
                ((CLUSTER, group.group, topic.topic), topic.lag) for group in view.groups for topic in group.topics
            ),
            metrics.KAFKA_GROUP_SUM_LAG: lambda view: (((CLUSTER, one.group), one.lag) for one in view.groups),
            metrics.KAFKA_GROUP_MAX_LAG: lambda view: (((CLUSTER, one.group), _largest(one)) for one in view.groups),
            metrics.KAFKA_GROUP_MAX_LAG_SECONDS: lambda view: (
                ((CLUSTER, one.group), one.seconds) for one in view.groups if one.seconds is not None
            ),
            metrics.KAFKA_LATEST: lambda view: _ends(view, lambda row: row.end, CLUSTER),
            metrics.KAFKA_EARLIEST: lambda view: _ends(view, lambda row: row.begin, CLUSTER),
            metrics.GROUP_VERDICT: lambda view: (
                ((one.group, str(verdict)), float(one.verdict == verdict)) for one in _ours(view) for verdict in Verdict
            ),
            metrics.GROUP_WAITING: lambda view: (((one.group,), one.waiting) for one in _ours(view)),
            metrics.GROUP_DRAIN_SECONDS: lambda view: (
                ((one.group,), one.drain_seconds) for one in _ours(view) if one.drain_seconds is not None
            ),
        }
        for snapshot, samples in by_view.items():
            snapshot.source = self._of_view(samples)
        metrics.KAFKA_ANSWERS.source = self._answers
        metrics.COVERAGE_HOLES.source = lambda: [
            ((one.topic, str(one.partition)), sum(end - begin for begin, end in one.holes)) for one in alarms.audited
        ]
        metrics.ALARMS_OPEN.source = lambda: Counter((one.rule, str(one.severity)) for one in alarms.open()).items()

    async def take(self, view: SystemLag) -> None:
        """Show this view from now on."""
        self._view = view

    def _of_view(self, samples: Callable[[SystemLag], Samples]) -> Callable[[], Samples]:
        def read() -> Samples:
            view = self._view
            return () if view is None or view.away_since is not None else samples(view)

        return read

    def _answers(self) -> Samples:
        view = self._view
        return () if view is None else (((), float(view.away_since is None)),)


def _ours(view: SystemLag) -> Iterator[GroupView]:
    return (group for group in view.groups if group.ours)


def _each(
    view: SystemLag,
    value: Callable[[PartitionView], float | None],
    labels: Callable[[str, str, int], tuple[str, ...]],
) -> Iterator[tuple[tuple[str, ...], float]]:
    for group in view.groups:
        for topic in group.topics:
            for row in topic.partitions:
                if (known := value(row)) is not None:
                    yield labels(group.group, topic.topic, row.partition), known


def _exporter(group: str, topic: str, partition: int) -> tuple[str, ...]:
    return group, group, topic, str(partition)


def _clustered(group: str, topic: str, partition: int) -> tuple[str, ...]:
    return CLUSTER, group, topic, str(partition)


def _ends(view: SystemLag, value: Callable[[PartitionView], float], *before: str) -> Samples:
    """A sample per partition, however many groups read it."""
    return {
        (*before, topic.topic, str(row.partition)): value(row)
        for group in view.groups
        for topic in group.topics
        for row in topic.partitions
    }.items()


def _largest(group: GroupView) -> int:
    return max((row.lag for topic in group.topics for row in topic.partitions), default=0)
