"""The view of a window: rates, time to drain, ages, roll-up, and what a lost broker and a restart do to it."""

from collections.abc import Callable, Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.history import Minutes, figures_of, read_figures
from monitoring.samples import GroupSample, PartitionSample, Sample
from monitoring.verdicts import SEVERITY, Verdict
from monitoring.view import PartitionView, SystemLag, view_of
from monitoring.watching import packed, unpacked
from monitoring.window import LONGEST_STEP_SECONDS, RATE_SECONDS, SAMPLE_SECONDS, WINDOW_SECONDS, Window

BEGUN = 1_700_000_000.0

Place = tuple[str, int]


def row(committed: int | None, end: int, partition: int = 0, **more: float) -> PartitionSample:
    return PartitionSample(partition, committed, 0, end, end, **more)  # type: ignore[arg-type]


def sample(at: float, rows: list[PartitionSample], state: str = "Stable", group: str = "g", topic: str = "t") -> Sample:
    return Sample(BEGUN + at, {group: GroupSample(state, {topic: rows})})


def away(at: float) -> Sample:
    return Sample(BEGUN + at, None)


def viewed(window: Window, ours: tuple[str, ...] = ("g",)) -> SystemLag:
    assert window.latest is not None
    view = view_of(window, ours, now=window.latest.at)
    assert view is not None
    return view


def partitions(window: Window) -> list[PartitionView]:
    [group] = viewed(window).groups
    [topic] = group.topics
    return list(topic.partitions)


def simulated(seconds: float, rows: Callable[[float], list[PartitionSample]], begin: float = 0.0) -> Window:
    """A window of samples of a group over simulated time."""
    times = [begin + number * SAMPLE_SECONDS for number in range(int(seconds / SAMPLE_SECONDS) + 1)]
    return Window([sample(at, rows(at)) for at in times])


@given(
    lags=st.lists(st.integers(1_000, 100_000), min_size=1, max_size=6),
    came=st.floats(0, 100),
    went=st.floats(150, 500),
)
def test_time_to_drain_is_that_of_the_slowest_partition_within_a_fifth(
    lags: list[int], came: float, went: float
) -> None:
    """A steady drain with skew: each partition its own lag and its own pace."""
    paces = [went * (1 + number / 5) for number in range(len(lags))]
    done = 60.0

    def rows(at: float) -> list[PartitionSample]:
        return [
            row(int(pace * at), int(lag + pace * done + came * at), number)
            for number, (lag, pace) in enumerate(zip(lags, paces, strict=True))
        ]

    view = viewed(simulated(done, rows))
    left = [(lag + came * done) / (pace - came) for lag, pace in zip(lags, paces, strict=True)]
    assert view.drain_seconds == pytest.approx(max(left), rel=0.2)


def test_a_partition_that_does_not_catch_up_has_no_time_to_drain_and_neither_has_its_group() -> None:
    def rows(at: float) -> list[PartitionSample]:
        return [row(int(50 * at), int(9_000 + 10 * at)), row(int(10 * at), int(100 + 20 * at), 1)]

    view = viewed(simulated(60, rows))
    fast, slow = view.groups[0].topics[0].partitions
    assert fast.drain_seconds is not None
    assert slow.drain_seconds is None
    assert view.drain_seconds is None
    assert slow.trend == pytest.approx(10, abs=0.5)


def test_rates_are_those_of_the_last_half_minute() -> None:
    def rows(at: float) -> list[PartitionSample]:
        faster = max(0.0, at - (300 - RATE_SECONDS))
        return [row(int(20 * at + 10 * faster), int(100 + 30 * at))]

    [one] = partitions(simulated(300, rows))
    assert one.rate_in == pytest.approx(30, rel=0.05)
    assert one.rate_out == pytest.approx(30, rel=0.05), "20 before that"
    [fresh] = partitions(Window([sample(0, [row(5, 9)])]))
    assert (fresh.rate_in, fresh.rate_out, fresh.trend, fresh.drain_seconds) == (None, None, None, None)


def test_an_age_comes_from_the_record_or_else_from_when_the_end_was_there() -> None:
    [read] = partitions(Window([sample(0, [row(5, 9, waits_since=BEGUN - 42)])]))
    assert (read.seconds, read.seconds_by) == (42.0, "record")
    [estimated] = partitions(simulated(100, lambda at: [row(400, int(10 * at))]))
    assert estimated.seconds_by == "interpolated"
    assert estimated.seconds == pytest.approx(60, abs=1)
    [unknown] = partitions(Window([sample(0, [row(400, 900)])]))
    assert (unknown.seconds, unknown.seconds_by) == (None, "none")
    [nothing] = partitions(Window([sample(0, [row(9, 9)])]))
    assert nothing.seconds == 0


def test_a_gap_that_was_read_counts_by_its_records() -> None:
    [one] = partitions(Window([sample(0, [row(5, 9, waiting=1)])]))
    assert (one.lag, one.waiting, one.exact) == (4, 1, True)
    [unread] = partitions(Window([sample(0, [row(5, 9)])]))
    assert (unread.waiting, unread.exact) == (4, False)


def test_a_lag_of_nothing_but_markers_stays_ok_for_ever() -> None:
    window = simulated(WINDOW_SECONDS, lambda _: [row(5, 6, waiting=0)])
    assert viewed(window).verdict is Verdict.OK


def test_nobody_is_blamed_for_the_time_in_which_the_broker_was_away() -> None:
    window = simulated(60, lambda at: [row(int(at), int(at) + 5)])
    window.add(away(65))
    window.add(away(600))
    assert viewed(window).away_since == BEGUN + 65
    for at in (605, 610, 615, 620, 625):
        window.add(sample(at, [row(60, 65)]))
        assert viewed(window).verdict is Verdict.OK
    assert viewed(window).away_since is None
    window.add(sample(627, [row(60, 65)], "Empty"))
    assert viewed(window).verdict is Verdict.OK, "members come back after the broker"
    assert viewed(window).window_seconds == 22
    for at in range(630, 680, 5):
        window.add(sample(at, [row(60, 65)]))
    assert viewed(window).verdict is Verdict.STOP, "but for what comes after it"


def test_a_time_in_which_nobody_looked_counts_little() -> None:
    window = simulated(60, lambda at: [row(int(at), int(at) + 5)])
    window.add(sample(5_000, [row(60, 65)]))
    assert viewed(window).verdict is Verdict.OK
    assert viewed(window).window_seconds == 60 + LONGEST_STEP_SECONDS


def test_a_window_that_is_packed_and_read_again_judges_the_same() -> None:
    samples = [sample(at, [row(60, int(at) + 100)]) for at in range(0, 200, 5)]
    again = Window(unpacked([packed(one) for one in samples]))
    assert viewed(again) == viewed(Window(samples))
    assert viewed(again).verdict is Verdict.STOP
    assert unpacked([b"of another version", packed(samples[0])]) == [samples[0]]


def test_the_window_is_bounded() -> None:
    window = simulated(5 * WINDOW_SECONDS, lambda at: [row(int(at), int(at) + 5)])
    [track] = window.tracks.values()
    assert len(track.points) <= WINDOW_SECONDS / SAMPLE_SECONDS + 1
    assert len(track.ends) <= WINDOW_SECONDS / SAMPLE_SECONDS + 1
    assert viewed(window).window_seconds == WINDOW_SECONDS


def test_a_topic_that_was_made_again_is_not_taken_for_a_rewind() -> None:
    window = simulated(60, lambda _: [row(500, 500)])
    window.add(sample(65, [row(0, 3)]))
    assert viewed(window).verdict is Verdict.OK
    rewound = simulated(60, lambda _: [row(500, 500)])
    rewound.add(sample(65, [row(0, 500)]))
    assert viewed(rewound).verdict is Verdict.REWIND


def test_the_stalled_partition_of_a_group_that_commits_elsewhere_names_its_place() -> None:
    view = viewed(simulated(120, lambda at: [row(int(10 * at), int(10 * at + 3)), row(int(min(at, 60)), 500, 1)]))
    assert view.verdict is Verdict.STALL
    assert view.reason.startswith("g: t/1: ")


def test_a_client_that_only_commits_and_leaves_one_topic_alone_stalls_there() -> None:
    window = Window()
    for at in range(0, 120, 5):
        topics = {"read": [row(5 * at, 5 * at + 5)], "left": [row(3, 9)]}
        window.add(Sample(BEGUN + at, {"g": GroupSample("Empty", topics)}))
    left, read = sorted(viewed(window).groups[0].topics, key=lambda topic: topic.topic)
    assert (left.verdict, read.verdict) == (Verdict.STALL, Verdict.OK)


def test_the_verdict_of_the_system_is_the_worst_of_our_groups_and_others_are_told_apart() -> None:
    groups = {
        "ours": GroupSample("Stable", {"t": [row(5, 5)]}),
        "console-1234": GroupSample("Empty", {"t": [row(1, 5)]}),
    }
    view = viewed(Window([Sample(BEGUN, groups)]), ours=("ours",))
    assert (view.verdict, view.others_verdict, view.lag) == (Verdict.OK, Verdict.NO_CONSUMER, 0)
    assert [group.group for group in view.groups] == ["console-1234", "ours"], "worst first"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8))
def test_a_group_is_as_bad_as_its_worst_partition_and_as_far_behind_as_all_together(
    rows: list[tuple[int, int]],
) -> None:
    samples = [
        sample(at, [row(min(a, b), max(a, b), number) for number, (a, b) in enumerate(rows)], "Empty")
        for at in range(0, 100, 5)
    ]
    view = viewed(Window(samples))
    [topic] = view.groups[0].topics
    assert view.lag == sum(one.lag for one in topic.partitions) == sum(abs(a - b) for a, b in rows)
    assert SEVERITY[view.verdict] == max(SEVERITY[one.verdict] for one in topic.partitions)
    assert msgspec.json.decode(msgspec.json.encode(view))["verdict"] == view.verdict


def test_before_the_broker_has_answered_there_is_no_view() -> None:
    assert view_of(Window([away(0)]), (), now=BEGUN) is None


def test_a_minute_has_its_last_figures_and_its_worst_verdict() -> None:
    minutes, window, kept = Minutes(), Window(), []
    begin = (BEGUN // 60 + 1) * 60 - BEGUN
    for at in range(0, 185, 5):
        stands = 0 <= at < 60
        window.add(sample(begin + at, [row(5 if stands else 5 + at, 1_000)], "Empty" if stands else "Stable"))
        if over := minutes.add(viewed(window)):
            kept.append(over)
    assert [minute.timestamp() - BEGUN for minute, _ in kept] == [begin, begin + 60, begin + 120]
    figures: list[Mapping[str, object]] = [msgspec.json.decode(msgspec.json.encode(one["g"])) for _, one in kept]
    first, second, third = (read_figures(one)["t"] for one in figures)
    assert first.verdict is Verdict.NO_CONSUMER
    assert third.verdict is Verdict.OK
    assert (second.waiting, second.partitions) == (1_000 - 120, [880])


def test_a_group_whose_name_postgres_does_not_take_is_kept_in_no_minute() -> None:
    groups = {name: GroupSample("Stable", {"t": [row(1, 5)]}) for name in ("g", "g\x00")}
    assert set(figures_of(viewed(Window([Sample(BEGUN, groups)])), {})) == {"g"}


@pytest.mark.parametrize("back", [600.0, 3600.0])
def test_a_clock_that_is_set_back_begins_the_window_again(back: float) -> None:
    window = simulated(60, lambda at: [row(int(at), 100)])
    window.add(away(65))
    window.add(sample(70, [row(70, 100)]))
    window.add(sample(70 - back, [row(71, 100)]))
    assert window.latest is not None
    assert window.latest.at == BEGUN + 70 - back
    assert window.observed_since == BEGUN + 70 - back
    window.add(sample(75 - back, [row(76, 100)]))
    [seen] = partitions(window)
    assert (seen.committed, seen.rate_out) == (76, 1.0)


def test_a_broker_that_goes_away_as_the_clock_is_set_back_is_away() -> None:
    window = simulated(60, lambda at: [row(int(at), 100)])
    window.add(away(-3600))
    assert (window.latest, window.away_since) == (None, BEGUN - 3600)


def test_a_sample_that_is_only_a_little_late_is_left_out() -> None:
    window = simulated(60, lambda at: [row(int(at), 100)])
    window.add(sample(60 - LONGEST_STEP_SECONDS, [row(1, 100)]))
    assert partitions(window)[0].committed == 60
