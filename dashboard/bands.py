"""The band of records that is usual for a source: the rule by which the pipeline itself tells anomalies. Pure."""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

FEWEST, MOST = 5, 20
NORMAL, UNUSUAL, TOLERANCE = 1.4826, 3.5, 0.02
"""As in decision 0022: beyond 3.5 robust standard deviations, of which 2 % and chance are always allowed for."""


class Band(NamedTuple):
    """Numbers of records that are usual; `runs` earlier runs say so."""

    low: float
    usual: float
    high: float
    runs: int


def band(earlier: Sequence[int]) -> Band | None:
    """The band of the latest runs, newest first; None before there are FEWEST of them."""
    latest = earlier[:MOST]
    if len(latest) < FEWEST:
        return None
    usual = median(latest)
    spread = NORMAL * median([abs(value - usual) for value in latest])
    reach = UNUSUAL * max(spread, TOLERANCE * usual, math.sqrt(max(usual, 1.0)))
    return Band(max(0.0, usual - reach), usual, usual + reach, len(latest))
