"""One file per page. Each has `install`, which gives the page its URL."""

from collections.abc import Callable

from dashboard.live import Live
from dashboard.pages import data, failure, failures, lag, overview, record, run, runs, topics, trace

ALL: tuple[Callable[[Live], None], ...] = (
    overview.install,
    lag.install,
    failures.install,
    failure.install,
    runs.install,
    run.install,
    data.install,
    record.install,
    trace.install,
    topics.install,
)
