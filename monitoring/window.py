"""A sliding window of samples, sorted by group and partition so that a new sample costs little."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from monitoring.samples import PartitionSample, Sample
from monitoring.verdicts import ABSENT_SECONDS, Point, commits_alone

WINDOW_SECONDS = 600.0
SAMPLE_SECONDS = 5.0
"""Between two samples of the monitor."""

LONGEST_STEP_SECONDS = 3 * SAMPLE_SECONDS
"""Counted between two samples at most. In a longer pause nobody looked, and perhaps nothing ran at all."""

RATE_SECONDS = 30.0
"""Rates are those of so long a stretch."""

TrackKey = tuple[str, str, int]
"""Group, topic and partition."""


@dataclass(slots=True)
class Track:
    """A group in one partition over the window."""

    points: deque[Point] = field(default_factory=deque)
    """Since the broker was last away."""
    ends: deque[tuple[float, int]] = field(default_factory=deque)
    """Seconds since the epoch and the end offset then."""
    moved_at: float | None = None
    """When the committed offset was last seen to change, on the points' clock."""
    alone: bool = False
    """It has committed while the group had no members."""

    def append(self, at: float, clock: float, row: PartitionSample, *, has_members: bool) -> None:
        """Take in what a sample says."""
        point = Point(clock, row.committed, row.behind, row.end, has_members)
        if self.points and self.points[-1].committed != row.committed:
            self.moved_at = clock
            self.alone = self.alone or commits_alone(self.points[-1], point)
        self.points.append(point)
        self.ends.append((at, row.end))

    def rates(self) -> tuple[float, float] | None:
        """Offsets written and offsets committed a second, over the latest stretch. None with less than two samples."""
        last = self.points[-1]
        first = next(point for point in self.points if point.at >= last.at - RATE_SECONDS)
        seconds = last.at - first.at
        if seconds <= 0:
            return None
        came = max(0, last.end - first.end)
        went = max(0, (last.committed or 0) - (first.committed or 0)) if first.committed is not None else 0
        return came / seconds, went / seconds

    def time_of(self, offset: int) -> float | None:
        """When the end was at this offset, in seconds since the epoch, interpolated; None if that is not in sight."""
        before: tuple[float, int] | None = None
        for at, end in reversed(self.ends):
            if end <= offset:
                if before is None or before[1] <= end:
                    return at
                return at + (before[0] - at) * (offset - end) / (before[1] - end)
            before = (at, end)
        return None


class Window:
    """The samples of the last `seconds`. Add them in order of time."""

    def __init__(self, samples: Iterable[Sample] = (), seconds: float = WINDOW_SECONDS) -> None:
        self._seconds = seconds
        self._clear()
        for sample in samples:
            self.add(sample)

    def _clear(self) -> None:
        self._clock = 0.0
        self._settled_at = 0.0
        self._clocks: deque[tuple[float, float]] = deque()
        self.tracks: dict[TrackKey, Track] = {}
        self.latest: Sample | None = None
        """The latest sample in which the broker answered."""
        self.away_since: float | None = None
        """Since when the broker has not answered, in seconds since the epoch; None while it does."""
        self.observed_since: float | None = None
        """The first sample of the window, since the broker was last away, in seconds since the epoch."""

    @property
    def observed_seconds(self) -> float:
        """Seconds for which the broker has been observed within the window, since it was last away."""
        return self._clocks[-1][1] - self._clocks[0][1] if self._clocks else 0.0

    def add(self, sample: Sample) -> None:
        """Take the next sample in. One that is not later than the latest is left out.

        If it is so much earlier that the clock has been set back, the window begins with it.
        """
        if self.latest is not None and sample.at < self.latest.at - LONGEST_STEP_SECONDS:
            self._clear()
        latest = self.latest
        if latest is not None and sample.at <= latest.at:
            return
        if sample.groups is None:
            # What was seen before stays in sight until the broker is back.
            self.away_since = self.away_since or sample.at
            return
        if self.away_since is not None:
            self.away_since = None
            self._begin_again()
        if latest is not None and self._clocks:
            self._clock += min(sample.at - latest.at, LONGEST_STEP_SECONDS)
        self._clocks.append((sample.at, self._clock))
        while self._clock - self._clocks[0][1] > self._seconds:
            self._clocks.popleft()
        self.observed_since = self._clocks[0][0]
        self.latest = sample
        self._follow(sample)

    def _begin_again(self) -> None:
        """Blame nobody for what the broker's absence did: commits that stand, members that have yet to come back."""
        self._clocks.clear()
        self._settled_at = self._clock + ABSENT_SECONDS
        for track in self.tracks.values():
            track.points.clear()
            track.moved_at, track.alone = None, False

    def _follow(self, sample: Sample) -> None:
        oldest, tracks = self._clocks[0][1], {}
        for name, group in (sample.groups or {}).items():
            has_members = group.has_members or self._clock < self._settled_at
            for topic, rows in group.topics.items():
                for row in rows:
                    key = (name, topic, row.partition)
                    track = self.tracks.get(key)
                    if track is None or (track.ends and row.end < track.ends[-1][1]):
                        track = Track()  # a topic that was made again says nothing about the one before
                    track.append(sample.at, self._clock, row, has_members=has_members)
                    while track.points[0].at < oldest:
                        track.points.popleft()
                    while track.ends[0][0] < sample.at - self._seconds:
                        track.ends.popleft()
                    tracks[key] = track
        self.tracks = tracks
