"""The line of counts tells apart what became of a run's records."""

from pathlib import Path

from commands.publish_runs import Result, describe
from producers.delivery import Progress
from producers.sources import build_source
from runtime.settings import Settings
from services.runs.run import Run
from stores.coverage import Outcome


def line(stored: int, failed: int, /, **outcomes: int) -> str:
    progress = Progress("weather", sent=stored + failed, confirmed=stored + failed)
    source = build_source("weather", {"kind": "csv", "dataset": "records", "path": "x.csv"}, Settings(), Path())
    outcome = Outcome(stored, failed, 0, of_run=outcomes)
    return describe(Result("weather", Run(source, progress=progress), outcome=outcome))


def test_records_that_replaced_each_other_are_not_counted_as_rows() -> None:
    told = line(12_360, 0, inserted=4, updated=0, superseded=12_356)
    assert told.endswith("in Postgres: 12,360 stored (inserted 4, superseded 12,356), 0 failed")


def test_held_records_are_named_among_the_failed_ones() -> None:
    assert line(1, 5, inserted=1, failed=2, held=3).endswith("1 stored (inserted 1), 5 failed (held 3)")


def test_a_run_that_published_nothing_lists_no_outcomes() -> None:
    assert line(0, 0, inserted=0).endswith("in Postgres: 0 stored, 0 failed")
