"""Verdicts by pure rules: a table of situations, and what must hold whatever the window looks like."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.verdicts import (
    LONGEST_PATIENCE_SECONDS,
    PATIENCE_SECONDS,
    UNKNOWN_PATIENCE_SECONDS,
    Point,
    Verdict,
    judge,
    patience,
    standing_seconds,
)

STEP = 5.0


def points(committed: Sequence[int | None], ends: Sequence[int], members: Sequence[bool] | None = None) -> list[Point]:
    """Samples every five seconds of one partition without retention and transactions."""
    there = members or [True] * len(ends)
    return [
        Point(number * STEP, at, max(0, end - (at or 0)), end, has_members)
        for number, (at, end, has_members) in enumerate(zip(committed, ends, there, strict=True))
    ]


def verdict(window: list[Point], group_moved_at: float | None = None) -> Verdict:
    return judge(window, group_moved_at).verdict


def test_a_group_that_keeps_up_is_ok() -> None:
    assert verdict(points(range(0, 1000, 10), range(5, 1005, 10))) is Verdict.OK


def test_an_idle_topic_is_ok_for_an_hour() -> None:
    window = points([7] * 720, [7] * 720)
    assert all(verdict(window[:number]) is Verdict.OK for number in range(1, 721))


def test_a_group_that_stops_under_load_is_told_within_half_a_minute() -> None:
    running = 12
    window = points([*range(0, 10 * running, 10), *[10 * running] * 6], range(5, 10 * (running + 6), 10))
    assert verdict(window[: running + 1]) is Verdict.OK
    assert verdict(window) is Verdict.STOP
    assert "wait" in judge(window).reason


def test_a_partition_that_stands_while_the_group_commits_elsewhere_is_a_stall() -> None:
    window = points([*range(0, 100, 10), *[100] * 6], [150] * 16)
    assert verdict(window, group_moved_at=window[-2].at) is Verdict.STALL
    assert verdict(window, group_moved_at=window[-1].at - 10 * PATIENCE_SECONDS) is Verdict.STOP


@pytest.mark.parametrize(("there", "expected"), [(False, Verdict.NO_CONSUMER), (True, Verdict.STOP)])
def test_a_group_whose_offsets_were_deleted_is_not_put_back_again_by_every_sample(
    there: bool, expected: Verdict
) -> None:
    committed = [*range(0, 100, 10), *[None] * 16]
    window = points(committed, [150] * len(committed), [True] * 10 + [there] * 16)
    assert verdict(window) is expected
    assert verdict(window[:11]) is Verdict.REWIND


def test_a_group_without_members_has_no_consumer_once_a_restart_would_be_over() -> None:
    there = [True] * 4 + [False] * 3
    window = points([4] * 7, [9] * 7, there)
    assert verdict(window[:5]) is Verdict.OK
    assert verdict(window[:6]) is Verdict.OK
    assert verdict(window) is Verdict.NO_CONSUMER
    assert verdict(points([4], [9], [False])) is Verdict.NO_CONSUMER, "in a single look there is no more to know"


def test_a_client_that_only_commits_and_never_is_a_member_is_judged_by_its_commits() -> None:
    assert verdict(points(range(0, 200, 10), range(9, 209, 10), [False] * 20)) is Verdict.OK
    window = points([*range(0, 100, 10), *[90] * 6], [300] * 16, [False] * 16)
    assert verdict(window) is Verdict.STOP


def test_a_group_without_members_and_without_lag_is_ok() -> None:
    assert verdict(points([4] * 40, [4] * 40, [False] * 40)) is Verdict.OK


def test_a_slow_group_is_warned_of() -> None:
    window = points(range(0, 160, 10), range(20, 820, 50))
    assert verdict(window) is Verdict.WARN
    assert "falls behind" in judge(window).reason


def test_a_burst_that_is_worked_off_is_no_warning() -> None:
    ends = [0, 500, *[1000] * 14]
    window = points([*range(0, 16 * 60, 60)], ends)
    assert all(verdict(window[:number]) is Verdict.OK for number in range(1, 17))


def test_the_saw_tooth_of_a_group_that_commits_seldom_is_no_growth() -> None:
    committed = [12 * 10 * (number // 12) for number in range(60)]
    assert verdict(points(committed, range(0, 600, 10))) is Verdict.OK


def test_a_group_that_commits_once_a_minute_is_not_taken_for_one_that_has_stopped() -> None:
    committed = [120 * (number // 12) for number in range(120)]
    window = points(committed, [10 * number + 5 for number in range(120)])
    assert {verdict(window[:number]) for number in range(1, 121)} <= {Verdict.OK, Verdict.WARN}
    stopped = window + points([committed[-1]] * 40, [5000] * 40)
    stopped = [Point(number * STEP, one.committed, one.behind, one.end) for number, one in enumerate(stopped)]
    assert verdict(stopped) is Verdict.STOP, "but three such pauses are too long"


def test_a_group_that_never_committed_is_given_a_minute() -> None:
    window = points([None] * 14, [3] * 14)
    assert verdict(window[:12]) is Verdict.OK
    assert verdict(window) is Verdict.STOP


def test_a_rewound_group_is_told_until_it_is_where_it_was() -> None:
    back = [100, 100, 100, 20, 40, 60, 80, 99, 100, 110]
    verdicts = [verdict(points(back[:number], [110] * number)) for number in range(1, 11)]
    assert verdicts == [Verdict.OK] * 3 + [Verdict.REWIND] * 5 + [Verdict.OK] * 2


def test_a_group_that_was_rewound_while_it_had_no_members_and_gets_none_has_no_consumer() -> None:
    window = points([100, 100, 20, 20, 20], [110] * 5, [False] * 5)
    assert [verdict(window[:number]) for number in range(3, 6)] == [
        Verdict.REWIND,
        Verdict.REWIND,
        Verdict.NO_CONSUMER,
    ]


def test_a_rewound_group_that_then_stands_still_has_stopped() -> None:
    assert verdict(points([80, 90, 100, *[20] * 6], [110] * 9)) is Verdict.STOP


def test_the_lag_that_a_rewind_has_added_is_no_growth() -> None:
    committed = [*range(100, 160, 10), *range(20, 200, 10)]
    ends = range(105, 105 + 10 * len(committed), 10)
    window = points(committed, ends)
    assert window[-1].committed is not None
    assert window[-1].committed > 160 - 10, "it is beyond where it was, and as far behind as the rewind took it back"
    assert verdict(window) is Verdict.OK


WINDOWS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans(), st.sampled_from([1.0, 5.0, 15.0])),
    min_size=1,
    max_size=60,
)


def built(steps: list[tuple[int, int, bool, float]]) -> list[Point]:
    """A group that never goes back, behind an end that only grows."""
    window, at, committed, end = [], 0.0, 0, 0
    for came, went, members, seconds in steps:
        end += came
        committed = min(end, committed + went)
        at += seconds
        window.append(Point(at, committed, end - committed, end, members))
    return window


@given(WINDOWS)
def test_who_has_nothing_to_read_is_ok_whatever_was_before(steps: list[tuple[int, int, bool, float]]) -> None:
    window = built(steps)
    last = window[-1]
    assert verdict([*window, Point(last.at + 5, last.end, 0, last.end, has_members=False)]) is Verdict.OK


@given(WINDOWS, st.none() | st.floats(0, 900))
def test_nobody_stands_who_has_moved_within_the_shortest_patience(
    steps: list[tuple[int, int, bool, float]], moved: float | None
) -> None:
    window = built(steps)
    if standing_seconds(window) < PATIENCE_SECONDS:
        assert verdict(window, moved) not in (Verdict.STALL, Verdict.STOP)


@given(WINDOWS)
def test_whoever_commits_nothing_for_the_longest_patience_is_not_ok(steps: list[tuple[int, int, bool, float]]) -> None:
    window = built(steps)
    last = window[-1]
    for _ in range(int(LONGEST_PATIENCE_SECONDS / STEP) + 1):
        window.append(Point(window[-1].at + STEP, last.committed, last.behind + 1, last.end + 1))
    assert verdict(window) is Verdict.STOP


@given(WINDOWS)
def test_only_a_group_that_goes_back_is_rewound(steps: list[tuple[int, int, bool, float]]) -> None:
    assert verdict(built(steps)) is not Verdict.REWIND


@given(WINDOWS, st.floats(0, 1e6))
def test_a_verdict_does_not_depend_on_when_the_clock_began(
    steps: list[tuple[int, int, bool, float]], shift: float
) -> None:
    window = built(steps)
    later = [Point(one.at + int(shift), one.committed, one.behind, one.end, one.has_members) for one in window]
    assert verdict(later) is verdict(window)


@given(WINDOWS)
def test_patience_is_bounded(steps: list[tuple[int, int, bool, float]]) -> None:
    assert PATIENCE_SECONDS <= patience(built(steps)) <= LONGEST_PATIENCE_SECONDS
    assert UNKNOWN_PATIENCE_SECONDS <= LONGEST_PATIENCE_SECONDS


@pytest.mark.parametrize("seconds", [1, 2, 10])
def test_the_pace_of_the_samples_does_not_matter(seconds: int) -> None:
    window = [
        Point(at, at if at < 60 else 60, (at - 60 if at > 60 else 0) + 1, at + 1) for at in range(0, 100, seconds)
    ]
    assert verdict(window) is Verdict.STOP
