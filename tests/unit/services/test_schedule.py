"""When a source is due, as pure functions of intervals, clocks and chance."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sources import build_source
from runtime.settings import Settings
from services.runs.scheduler import JITTER, first_start, interval_of, next_start

SECONDS = st.floats(0.1, 1e6)
CHANCE = st.floats(0, 1)


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [(None, 0, None), (None, 60, 60), (300, 0, 300), (300, 60, 300), (0, 60, None)],
)
def test_a_block_decides_its_interval_before_the_default_does(
    own: float | None, default: float, expected: float | None
) -> None:
    block: dict[str, object] = {"kind": "csv", "path": "a.csv", "dataset": "records", "key": "n"}
    if own is not None:
        block["interval_seconds"] = own
    source = build_source("a", block, Settings(), Path())
    assert interval_of(source, default) == expected


@given(interval=SECONDS, since=SECONDS, chance=CHANCE)
def test_a_source_is_first_due_an_interval_after_its_latest_run(interval: float, since: float, chance: float) -> None:
    due = first_start(0.0, interval, since, chance)
    assert max(0.0, interval - since) <= due <= max(0.0, interval - since) + JITTER * interval


@given(interval=SECONDS, chance=CHANCE)
def test_a_source_that_was_never_run_waits_for_its_turn(interval: float, chance: float) -> None:
    assert interval <= first_start(0.0, interval, None, chance) <= interval * (1 + JITTER) * 1.0001


@given(interval=SECONDS, took=SECONDS, chance=CHANCE)
def test_runs_that_take_longer_than_the_interval_miss_starts_and_do_not_pile_up(
    interval: float, took: float, chance: float
) -> None:
    due = next_start(0.0, took, interval, chance)
    assert due >= took
    assert due <= max(took, interval * (1 + JITTER) * 1.0001)
    assert due >= interval * (1 - JITTER) * 0.9999
