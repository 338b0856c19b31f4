"""When a consumer group counts as stalled, and which of its processes are then restarted."""

from collections.abc import Mapping
from typing import Any

import pytest

from monitoring.lag import PartitionLag
from monitoring.progress import Sample, Stall, forget_before, stalled, to_restart

LIMIT = 10.0


def row(committed: int | None, lag: int, partition: int = 0, group: str = "normalizer") -> PartitionLag:
    return PartitionLag(group, "customers.raw", partition, committed, (committed or 0) + lag, lag)


def samples(*seen: PartitionLag | None) -> list[Sample]:
    """One every 5 seconds; None: the broker did not answer."""
    return [Sample(5.0 * place, None if one is None else (one,)) for place, one in enumerate(seen)]


@pytest.mark.parametrize(
    ("seen", "is_stalled"),
    [
        pytest.param([], False, id="nothing was read yet"),
        pytest.param([row(7, 3)] * 2, False, id="not for long enough"),
        pytest.param([row(7, 3)] * 3, True, id="lag and no commit for the whole window"),
        pytest.param([row(7, 3), row(7, 300), row(7, 9000)], True, id="more and more records wait"),
        pytest.param([row(None, 3)] * 3, True, id="it never committed"),
        pytest.param([row(7, 3), row(8, 2), row(8, 2)], False, id="it moved within the window"),
        pytest.param([row(7, 3), row(7, 3), row(10, 0)], False, id="it caught up just now"),
        pytest.param([row(7, 0), row(7, 0), row(7, 3)], False, id="the records have only just come"),
        pytest.param([row(7, 0), row(7, 3), row(7, 3), row(7, 3)], True, id="it was idle before"),
        pytest.param([row(7, 3), row(2, 8), row(2, 8)], False, id="its offsets were reset by hand"),
        pytest.param([row(7, 3), row(7, 3), None, row(7, 3)], False, id="the broker was away in between"),
        pytest.param([row(7, 3), row(7, 3), row(7, 3), None], False, id="the broker is away now"),
        pytest.param([None, row(7, 3), row(7, 3), row(7, 3)], True, id="the broker was away before"),
    ],
)
def test_a_group_stalls_when_records_wait_and_nothing_is_committed(
    seen: list[PartitionLag | None], is_stalled: bool
) -> None:
    found = samples(*seen)
    now = found[-1].at if found else 0.0
    assert bool(stalled(found, now, LIMIT)) is is_stalled


def test_one_stuck_partition_among_moving_ones_is_named() -> None:
    found = [Sample(5.0 * n, (row(7, 3, partition=0), row(7 + n, 3, partition=1))) for n in range(3)]
    assert stalled(found, 10.0, LIMIT) == [Stall("normalizer", "customers.raw", 0, 10.0, 3)]


def test_groups_are_judged_apart() -> None:
    found = [Sample(5.0 * n, (row(7, 3, group="sink-redis"), row(7 + n, 3, group="normalizer"))) for n in range(3)]
    assert [stall.group for stall in stalled(found, 10.0, LIMIT)] == ["sink-redis"]


def test_samples_from_before_a_restart_do_not_count_against_the_new_process() -> None:
    found = samples(*[row(7, 3)] * 3)
    assert stalled(forget_before(found, 5.0), 10.0, LIMIT) == []


STALLS = [Stall("g", "customers.raw", 0, 12.0, 3)]
HOLDS = {"state": "running", "assigned": ["customers.raw/0"]}
HOLDS_ANOTHER = {"state": "running", "assigned": ["customers.raw/1"]}
WAITS = {"state": "waiting_for_store", "assigned": ["customers.raw/0"], "problem": "waiting 30 s for postgres"}

WRITES = {"state": "running", "assigned": ["customers.raw/0"], "writing_seconds": 11.0}
HANGS = {**WRITES, "writing_seconds": 31.0, "problem": "the store has not answered a write for 31 s"}
STOPPED = {"state": "failure_limit_reached", "partitions": ["customers.raw/0"], "problem": "1000 of the latest 1000"}


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        pytest.param({"a": HOLDS}, ["a"], id="the one that holds the partition"),
        pytest.param({"a": HOLDS, "b": HOLDS_ANOTHER}, ["a"], id="its neighbour is left alone"),
        pytest.param({"a": None, "b": HOLDS_ANOTHER}, ["a"], id="the one that does not answer"),
        pytest.param({"a": WAITS}, [], id="it waits for its store"),
        pytest.param({"a": WRITES}, [], id="its store has a write in hand"),
        pytest.param({"a": HANGS}, ["a"], id="a write that takes too long explains nothing"),
        pytest.param(
            {"a": STOPPED, "b": HOLDS_ANOTHER}, [], id="a restart would hide that it has stopped at the limit"
        ),
        pytest.param({"a": WAITS, "b": HOLDS_ANOTHER}, [], id="the store explains it, the neighbour is not to blame"),
        pytest.param({"a": {"partitions": ["customers.raw/0"]}}, ["a"], id="the normalizer's word for it"),
        pytest.param({"a": {"partitions": None}, "b": HOLDS_ANOTHER}, ["a", "b"], id="nobody holds it: all"),
        pytest.param({}, [], id="the group has no process here"),
    ],
)
def test_only_processes_that_do_not_explain_a_stall_are_restarted(
    answers: Mapping[str, Mapping[str, Any] | None], names: list[str]
) -> None:
    assert to_restart(STALLS, answers) == names


def test_nobody_is_restarted_without_a_stall() -> None:
    assert to_restart([], {"a": None}) == []


def test_a_stall_is_explained_in_paused_topics_only() -> None:
    paused = {"state": "running", "assigned": ["customers.raw/0"], "paused": {"customers.raw": "declared anew"}}
    stall = Stall("normalizer", "customers.raw", 0, 10.0, 3)
    assert to_restart([stall], {"a": paused}) == []
    other = {**paused, "assigned": ["customers.raw/0", "orders.raw/0"]}
    assert to_restart([stall, Stall("normalizer", "orders.raw", 0, 10.0, 3)], {"a": other}) == ["a"]
