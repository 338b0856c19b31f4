"""Tells of a drift once, when it begins: a line in the log, and a count."""

import structlog

from sinks import metrics
from sinks.drift.store import Begun

log = structlog.get_logger()


def announce(drift: Begun) -> None:
    """A warning where records fail because of it. To be called once the drift is committed."""
    group, change = drift.group, drift.change
    breaking = drift.reason is not None
    metrics.SCHEMA_DRIFT.labels(group.dataset, change.what, "yes" if breaking else "no").inc()
    (log.warning if breaking else log.info)(
        "schema_drift",
        source=group.source,
        dataset=group.dataset,
        what=change.what,
        field=change.field,
        from_type=change.from_type,
        to_type=change.to_type,
        failing_with=drift.reason,
        run=group.run,
    )
