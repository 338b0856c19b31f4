"""The Postgres sink dies exactly between its commit and the change events, and between these and its offsets."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from monitoring.lag import read_lag
from runtime.fault_points import VARIABLE, FaultPoint
from runtime.settings import Settings
from tests.e2e.stores import value
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import Workload
from tests.processes import Pipeline
from tests.waiting import eventually

RECORDS = 5_000
CRASHES = 3

WHAT: dict[FaultPoint, str] = {
    "rows_committed": "crash between the Postgres commit and the change event",
    "changes_confirmed": "crash between the change event and the offset commit",
}


@pytest.mark.parametrize("point", list(WHAT))
def test_committed_rows_are_announced_after_a_crash(
    pipeline_settings: Settings, tmp_path: Path, point: FaultPoint
) -> None:
    settings = pipeline_settings
    with Pipeline(settings, tmp_path) as pipeline:
        sink = pipeline["sink postgres"]
        sink.stop()
        with load(settings, Workload(RECORDS, 500, seed=6), per_second=1e6) as running:
            published = running.finish()
        sink.environment[VARIABLE] = point
        for _ in range(CRASHES):
            # Smaller batches than records, so that each life gets through some of them before its end.
            sink.environment["SINK_BATCH_RECORDS"] = "1000"
            before = covered(settings)
            sink.start()
            eventually(lambda: sink.exit_code == -signal.SIGKILL, what=f"it dies at {point}")
            assert covered(settings) >= before
        assert covered(settings) > 0, "rows were committed"
        waiting = [row for row in asyncio.run(read_lag(settings)) if row.group == settings.named("sink-postgres")]
        # The sink's own failures, claims that are pending, come on top once they are published.
        assert sum(row.lag for row in waiting) >= published, "and their offsets were not"
        began = time.monotonic()
        del sink.environment[VARIABLE]
        sink.start()
        wait_until_settled(settings)
        recovery = time.monotonic() - began
        verdict = verify(settings)
    assert verdict.records == published == RECORDS
    assert (verdict.lost, verdict.double) == (0, 0)
    record_figure(Figure(WHAT[point], CRASHES, published, verdict.lost, verdict.double, recovery))


def covered(settings: Settings) -> int:
    """Number of raw records that have an outcome."""
    query = "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM coverage, unnest(ranges) AS r"
    return int(value(settings, query))
