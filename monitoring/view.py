"""The lag as people and programs see it: the system, its groups, their topics and partitions, each with a verdict.

`view_of` is pure. `monitoring.watching.read_view` reads one now.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from monitoring.lag import PartitionLag
from monitoring.samples import GroupSample, PartitionSample
from monitoring.verdicts import FINE, SEVERITY, Judgment, Verdict, judge, worst
from monitoring.window import SAMPLE_SECONDS, Track, Window

SecondsBy = Literal["record", "interpolated", "none"]

FRESH_SECONDS = 4 * SAMPLE_SECONDS
"""A window whose samples end earlier is nobody's any more: the monitor is not running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures that are given of a partition, a topic, a group and the system alike."""

    lag: int
    """Offsets from the position to the end. At least as many as there are records that wait."""
    waiting: int
    """Records that wait: exact, or `lag` where the gap was not read."""
    exact: bool
    """True if `waiting` was counted by reading; otherwise markers, aborted and compacted records may be among it."""
    seconds: float | None
    """Age of the oldest record that waits; 0 without any, None if not known."""
    seconds_by: SecondsBy
    """`record`: by that record's timestamp; `interpolated`: by when the end offset was there; `none`: not known."""
    rate_in: float | None
    """Offsets written a second, over the last half minute; None before there are two samples."""
    rate_out: float | None
    """Offsets committed a second."""
    trend: float | None
    """By how much the lag grows a second; negative while it shrinks."""
    drain_seconds: float | None
    """Time until nothing waits at these rates: the slowest partition's. None: never, or not known yet."""
    verdict: Verdict
    reason: str
    """Why, in words; empty if OK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView(Figures):
    """A group in one partition."""

    partition: int
    committed: int | None
    begin: int
    """The first offset that the partition still holds."""
    end: int
    """The last stable offset."""
    held: int
    """Offsets behind the end that wait for an open transaction. Neither lag nor loss."""
    held_seconds: float | None
    """Age of that transaction; None where nothing is held, or the time is not known."""
    expired: int
    """Offsets from the commit to `begin`: retention has taken them, unread by this group."""
    member: str | None
    """The member of the group that reads it, and its host; None where nobody does, or where that is not known."""
    ahead: int
    """Offsets by which the commit is beyond all that is written: the topic was made again or cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicView(Figures):
    """A group in one topic, by physical name."""

    topic: str
    partitions: tuple[PartitionView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView(Figures):
    """A consumer group, by physical name."""

    group: str
    ours: bool
    """A group of this pipeline."""
    state: str
    """As the broker says: Stable, Empty, Dead (not known), PreparingRebalance, …"""
    topics: tuple[TopicView, ...]
    gone: tuple[str, ...]
    """Topics that it has commits of and that exist no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLag(Figures):
    """All groups; the figures and the verdict of the system are those of our groups alone."""

    at: float
    """When the broker was read, in seconds since the epoch."""
    window_seconds: float
    """Seconds for which the broker has been observed: a verdict is as good as that is long."""
    monitored: bool
    """The monitor samples: without it the window is what this process has seen itself."""
    away_since: float | None
    """Since when the broker has not answered; None while it does."""
    others_verdict: Verdict
    """The worst of the groups that are not ours."""
    groups: tuple[GroupView, ...]
    """Ours and others', worst first."""

    def group(self, name: str) -> GroupView | None:
        """The group of this physical name."""
        return next((group for group in self.groups if group.group == name), None)


def view_of(window: Window, ours: Collection[str], *, now: float, monitored: bool = True) -> SystemLag | None:
    """The view of a window. `ours`: physical names of our groups; `now` in seconds since the epoch.

    None before the broker has answered for the first time. Pure.
    """
    sample = window.latest
    if sample is None or sample.groups is None:
        return None
    groups = sorted(
        (_group(name, group, window, name in ours, now) for name, group in sample.groups.items()),
        key=lambda group: (-SEVERITY[group.verdict], -group.waiting, not group.ours, group.group),
    )
    mine = [group for group in groups if group.ours]
    others = [group for group in groups if not group.ours]
    return SystemLag(
        **_sum(mine, [group.group for group in mine]),
        at=sample.at,
        window_seconds=round(window.observed_seconds, 3),
        monitored=monitored,
        away_since=window.away_since,
        others_verdict=max((group.verdict for group in others), key=SEVERITY.__getitem__, default=Verdict.OK),
        groups=tuple(groups),
    )


def view_of_nothing(away_since: float) -> SystemLag:
    """The view of a broker that has not answered since the window began. Pure."""
    return SystemLag(
        **_sum(()),
        at=away_since,
        window_seconds=0.0,
        monitored=True,
        away_since=away_since,
        others_verdict=Verdict.OK,
        groups=(),
    )


def row_of(group: GroupView, topic: TopicView, row: PartitionView) -> PartitionLag:
    """The row of a partition by itself. Pure."""
    return PartitionLag(
        group.group, topic.topic, row.partition, row.committed, row.end, row.lag, row.held, row.held_seconds
    )


class _Commits(NamedTuple):
    """Commits of a group as a whole; see `judge`."""

    moved_at: float | None
    alone: bool


def _group(name: str, group: GroupSample, window: Window, ours: bool, now: float) -> GroupView:
    tracks = {
        (topic, row.partition): window.tracks[name, topic, row.partition]
        for topic, rows in group.topics.items()
        for row in rows
    }
    moved = max((track.moved_at for track in tracks.values() if track.moved_at is not None), default=None)
    commits = _Commits(moved, any(track.alone for track in tracks.values()))
    topics = tuple(_topic(topic, rows, tracks, commits, now) for topic, rows in group.topics.items())
    return GroupView(
        **_sum(topics),
        group=name, ours=ours, state=group.state, topics=topics, gone=tuple(group.gone),
    )  # fmt: skip


def _topic(
    topic: str,
    rows: Sequence[PartitionSample],
    tracks: Mapping[tuple[str, int], Track],
    commits: _Commits,
    now: float,
) -> TopicView:
    partitions = tuple(_partition(row, tracks[topic, row.partition], commits, now) for row in rows)
    return TopicView(
        **_sum(partitions, [f"{topic}/{one.partition}" for one in partitions]),
        topic=topic, partitions=partitions,
    )  # fmt: skip


def _partition(row: PartitionSample, track: Track, commits: _Commits, now: float) -> PartitionView:
    rates = track.rates()
    came, went = rates or (None, None)
    seconds, by = _seconds(row, track, now)
    ahead = max(0, (row.committed or 0) - row.top)
    judgment = judge(list(track.points), commits.moved_at, alone=commits.alone) if row.behind else FINE
    if ahead:
        judgment = _beyond(ahead)
    return PartitionView(
        lag=row.lag,
        waiting=row.behind,
        exact=row.waiting is not None or row.lag == 0,
        seconds=seconds,
        seconds_by=by,
        rate_in=_round(came),
        rate_out=_round(went),
        trend=None if came is None or went is None else _round(came - went),
        drain_seconds=_drain(row.behind, came, went),
        **_judged(judgment),
        partition=row.partition,
        committed=row.committed,
        begin=row.begin,
        end=row.end,
        held=max(0, row.top - row.end),
        held_seconds=None if row.held_since is None else round(max(0.0, now - row.held_since), 1),
        expired=0 if row.committed is None else max(0, row.begin - row.committed),
        ahead=ahead,
        member=row.member,
    )


def _beyond(ahead: int) -> Judgment:
    return Judgment(
        Verdict.WARN,
        f"its commit is {ahead:,} beyond all that is written: the topic was made again or cut; what comes is skipped",
    )


def _seconds(row: PartitionSample, track: Track, now: float) -> tuple[float | None, SecondsBy]:
    if row.behind == 0:
        return 0.0, "record"
    if row.waits_since is not None:
        return round(max(0.0, now - row.waits_since), 1), "record"
    since = track.time_of(row.position)
    return (None, "none") if since is None else (round(max(0.0, now - since), 1), "interpolated")


def _drain(behind: int, came: float | None, went: float | None) -> float | None:
    if behind == 0:
        return 0.0
    if came is None or went is None or went <= came:
        return None
    return round(behind / (went - came), 1)


def _sum(parts: Sequence[Figures], places: Sequence[str] | None = None) -> dict[str, Any]:
    """Sums of lags and rates, the largest age, the slowest drain, the worst verdict. `places` are put before reasons.

    Of verdicts that are as bad, that of the part where most waits.
    """
    told = zip(parts, places or [""] * len(parts), strict=True)
    judgments = [
        Judgment(part.verdict, f"{place}: {part.reason}" if place and part.reason else part.reason)
        for part, place in sorted(told, key=lambda one: -one[0].waiting)
    ]
    seconds = [part.seconds for part in parts if part.seconds is not None]
    oldest = max((part for part in parts if part.seconds is not None), key=lambda part: part.seconds or 0, default=None)
    drains = [part.drain_seconds for part in parts]
    return {
        "lag": sum(part.lag for part in parts),
        "waiting": sum(part.waiting for part in parts),
        "exact": all(part.exact for part in parts),
        "seconds": max(seconds) if seconds else None,
        "seconds_by": "none" if oldest is None else oldest.seconds_by,
        "rate_in": _total([part.rate_in for part in parts]),
        "rate_out": _total([part.rate_out for part in parts]),
        "trend": _total([part.trend for part in parts]),
        "drain_seconds": None if None in drains else max((one for one in drains if one is not None), default=0.0),
        **_judged(worst(judgments)),
    }


def _judged(judgment: Judgment) -> dict[str, Any]:
    return {"verdict": judgment.verdict, "reason": judgment.reason}


def _total(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return _round(sum(known)) if known else None


def _round(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 2)
