"""The line of counts tells apart what became of a run's records."""

from commands.publish_runs import Run, describe
from producers.delivery import Progress


def line(stored: int, failed: int, /, **outcomes: int) -> str:
    progress = Progress("weather", sent=stored + failed, confirmed=stored + failed)
    return describe(Run(progress, "records", stored=stored, failed=failed, outcomes=outcomes))


def test_records_that_replaced_each_other_do_not_pass_for_rows() -> None:
    told = line(12_360, 0, inserted=4, updated=0, superseded=12_356)
    assert told.endswith("in Postgres: 12,360 stored (inserted 4, superseded 12,356), 0 failed")


def test_held_records_are_told_among_those_that_failed() -> None:
    assert line(1, 5, inserted=1, failed=2, held=3).endswith("1 stored (inserted 1), 5 failed (held 3)")


def test_where_nothing_was_published_nothing_is_told_apart() -> None:
    assert line(0, 0, inserted=0).endswith("in Postgres: 0 stored, 0 failed")
