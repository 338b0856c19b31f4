"""The verdict on a group in one partition, by pure rules over a sliding window of samples.

Judged by committed offsets and by what waits now, never by the age of a commit alone: a topic where nothing is to be
read is well however long ago that was, and a group that commits seldom is given the time that it usually takes.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Verdict(StrEnum):
    """From harmless to bad."""

    OK = "OK"
    WARN = "WARN"
    """It commits, and falls further behind."""
    REWIND = "REWIND"
    """It was put back to an earlier offset, and has not come to where it was."""
    STALL = "STALL"
    """It commits in other partitions, and stands in this one although records wait."""
    STOP = "STOP"
    """It commits nowhere any more although records wait."""
    NO_CONSUMER = "NO CONSUMER"
    """Records wait, and the group has no members."""


SEVERITY = {verdict: number for number, verdict in enumerate(Verdict)}

PATIENCE_SECONDS = 20.0
"""A group stands still when it has committed nothing for so long although records wait, or …"""

USUAL_PAUSES = 3
"""… for so many times its usual pause between two commits, if that is longer."""

UNKNOWN_PATIENCE_SECONDS = 60.0
"""The same for a group that has not been seen to commit within the window."""

LONGEST_PATIENCE_SECONDS = 300.0

ABSENT_SECONDS = 8.0
"""A group without members for so long has none; a restart takes less."""

GROWTH_SECONDS = 30.0
"""A lag that grows for shorter is a burst."""

GROWTH_SPAN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """A group's position in one partition at one moment of the window."""

    at: float
    """Seconds during which the broker was observed: time in which nobody looked does not count."""
    committed: int | None
    behind: int
    """Records that wait."""
    end: int = 0
    """The last stable offset."""
    has_members: bool = True


@dataclass(frozen=True, slots=True)
class Judgment:
    """A verdict and why, in words for people; OK needs none."""

    verdict: Verdict
    reason: str = ""


FINE = Judgment(Verdict.OK)


def judge(points: Sequence[Point], group_moved_at: float | None = None, *, alone: bool = False) -> Judgment:
    """Judge a window of one partition, in order of time and without a time in which the broker was away. Pure.

    `group_moved_at`: when the group last committed in any partition, on the points' clock; None: not in the window.
    `alone`: it has been seen to commit, anywhere, while it had no members.
    """
    if not points or points[-1].behind == 0:
        return FINE
    now, last = points[-1].at, points[-1]
    since_rewind = _since_rewind(points)
    current = points[since_rewind:] if since_rewind else points
    stood = standing_seconds(current)
    limit = patience(points)
    if (
        not last.has_members
        and not (alone or _commits_without_members(points))
        and _absent(current, rewound=bool(since_rewind))
    ):
        return Judgment(Verdict.NO_CONSUMER, f"{last.behind:,} wait, and the group has no members")
    if stood >= limit:
        moves = group_moved_at is not None and now - group_moved_at < limit
        where = "committed nothing here for" if moves else "committed nothing for"
        return Judgment(Verdict.STALL if moves else Verdict.STOP, f"{last.behind:,} wait, {where} {stood:.0f} s")
    if since_rewind:
        furthest = max(point.committed or 0 for point in points)
        return Judgment(Verdict.REWIND, f"was put back from offset {furthest:,}, and is at {last.committed or 0:,}")
    since = points[_last_step_back(points) :]
    if grown := _growth(since):
        return Judgment(Verdict.WARN, f"falls behind: {grown:,} more wait than {_span(since):.0f} s ago")
    return FINE


def worst(judgments: Sequence[Judgment]) -> Judgment:
    """The worst of these, the first among equals; FINE of none. Pure."""
    return max(judgments, key=lambda one: SEVERITY[one.verdict], default=FINE)


def standing_seconds(points: Sequence[Point]) -> float:
    """For how long records have waited while the committed offset was the last one. Pure."""
    last, since = points[-1], points[-1].at
    for point in reversed(points):
        if point.behind == 0 or point.committed != last.committed:
            break
        since = point.at
    return last.at - since


def patience(points: Sequence[Point]) -> float:
    """The time that a group is given until its next commit. Pure."""
    pauses, since = [], None
    for earlier, later in pairwise(points):
        if earlier.behind and since is None:
            since = earlier.at
        if earlier.committed != later.committed:
            pauses.append(0.0 if since is None else later.at - since)
            since = None
        elif later.behind == 0:
            since = None
    if not pauses:
        return UNKNOWN_PATIENCE_SECONDS
    return min(LONGEST_PATIENCE_SECONDS, max(PATIENCE_SECONDS, USUAL_PAUSES * statistics.median(pauses)))


def _since_rewind(points: Sequence[Point]) -> int:
    """The place in the window at which the group stood behind where it had been; 0 if it has not been put back."""
    furthest, before, place = -1, -1, 0
    for number, point in enumerate(points):
        committed = -1 if point.committed is None else point.committed  # its offsets may have been deleted
        if committed >= furthest:
            furthest, place = committed, 0
        elif not place or committed < before:
            place = number
        before = committed
    return place


def _last_step_back(points: Sequence[Point]) -> int:
    """The place in the window at which the group was last put back: what that added to the lag is no growth."""
    steps = (n for n in range(len(points) - 1, 0, -1) if (points[n].committed or 0) < (points[n - 1].committed or 0))
    return next(steps, 0)


def _absent(points: Sequence[Point], *, rewound: bool) -> bool:
    """True if the group has had no members all the time, or for longer than a restart takes.

    It is only put back while it has none, so it is given the time of a restart after that too.
    """
    since = points[-1].at
    for point in reversed(points):
        if point.has_members:
            return points[-1].at - since >= ABSENT_SECONDS
        since = point.at
    return not rewound or points[-1].at - since >= ABSENT_SECONDS


def _commits_without_members(points: Sequence[Point]) -> bool:
    """True for a client that assigns itself partitions and only commits: it never is a member."""
    return any(commits_alone(earlier, later) for earlier, later in pairwise(points))


def commits_alone(earlier: Point, later: Point) -> bool:
    """True if a commit came between two points at which the group had no members. Pure."""
    moved = (earlier.committed or 0) < (later.committed or 0)
    return moved and not earlier.has_members and not later.has_members


def _span(points: Sequence[Point]) -> float:
    return min(GROWTH_SPAN_SECONDS, points[-1].at - points[0].at)


def _growth(points: Sequence[Point]) -> int:
    """By how much the lag has grown: 0 unless every lag of the last third of the span is above all of the first third.

    So neither a burst nor the saw-tooth of a group that commits seldom is taken for growth.
    """
    since = points[-1].at - GROWTH_SPAN_SECONDS
    recent = [point for point in points if point.at >= since]
    if recent[-1].at - recent[0].at < GROWTH_SECONDS or len(recent) < 3 or not all(point.behind for point in recent):
        return 0
    third = max(1, len(recent) // 3)
    first, last = [p.behind for p in recent[:third]], [p.behind for p in recent[-third:]]
    return max(0, recent[-1].behind - recent[0].behind) if min(last) > max(first) else 0
