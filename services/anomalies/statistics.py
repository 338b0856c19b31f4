"""Robust statistics: a few odd runs among those before change little of what is usual. Pure."""

from collections.abc import Sequence
from statistics import median

NORMAL = 1.4826
"""The median absolute deviation times this estimates the standard deviation of normal data."""

UNUSUAL = 3.5
"""The modified z-score beyond which a value is an outlier (Iglewicz and Hoaglin, 1993)."""

MOST = 1e6
"""Scores are cut at this: beyond it they say nothing more."""


def spread(values: Sequence[float]) -> float:
    """The standard deviation, estimated by the median absolute deviation. Raises StatisticsError without values."""
    middle = median(values)
    return NORMAL * median([abs(value - middle) for value in values])


def robust_z(value: float, before: Sequence[float], least_spread: float) -> float:
    """How many standard deviations `value` is away from the median of those before, with a sign.

    `least_spread`, more than 0, is what is always allowed for: else equal values would make the least change infinite.
    """
    score = (value - median(before)) / max(spread(before), least_spread)
    return max(-MOST, min(MOST, score))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the ordered values lie, interpolated. Needs one value at least."""
    position = share * (len(ordered) - 1)
    lower = int(position)
    upper = min(lower + 1, len(ordered) - 1)
    weight = position - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight
