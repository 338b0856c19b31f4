"""What of a run is unlike the runs before it. Pure."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec

from services.anomalies.profile import Features
from services.anomalies.statistics import UNUSUAL, robust_z

FEWEST_RUNS, MOST_RUNS = 5, 20
"""Earlier runs that it takes to say what is usual, and how many are looked at."""

COUNT_TOLERANCE = 0.02
"""Of the usual number of records, or of the usual value of a field: always allowed for."""

RATE_TOLERANCE = 0.01
"""One record in a hundred: always allowed for."""

_TAIL_ERROR = 1.7
"""Standard error of a 10th or 90th percentile of normal data, in standard deviations by the root of the number."""

_TAILS_APART = 2.563
"""Standard deviations between the 10th and the 90th percentile of normal data."""


class Anomaly(msgspec.Struct, frozen=True):
    """A feature of a run that is unusual. `score` is the robust z-score, `usual` the median of `runs` earlier runs."""

    feature: str
    value: float
    usual: float
    score: float
    runs: int
    field: str | None = None


def judge(features: Features, sampled: int, before: Sequence[Features]) -> list[Anomaly]:
    """The anomalies of a run against the latest runs before it, worst first. None before there are FEWEST_RUNS.

    A field that the run does not have any more counts as null in all of its records.
    """
    latest = before[:MOST_RUNS]
    found = []
    for name in sorted({name for run in latest for name in run}):
        earlier = [run[name] for run in latest if name in run]
        value = features.get(name, 1.0 if name.startswith("null_rate:") and sampled else None)
        if value is None or len(earlier) < FEWEST_RUNS:
            continue
        score = robust_z(value, earlier, _tolerance(name, earlier, sampled, features, latest))
        if abs(score) > UNUSUAL:
            feature, _, field = name.partition(":")
            usual = _rounded(median(earlier))
            found.append(Anomaly(feature, _rounded(value), usual, round(score, 1), len(earlier), field or None))
    return sorted(found, key=lambda one: (-abs(one.score), one.feature, one.field or ""))


def in_words(anomaly: Anomaly) -> str:
    """For a log line and the command line."""
    what = anomaly.feature.replace("_", " ") + (f" of {anomaly.field}" if anomaly.field else "")
    return f"{what}: {anomaly.value:g}, usually {anomaly.usual:g} (score {anomaly.score:g} over {anomaly.runs} runs)"


def _tolerance(
    name: str, earlier: Sequence[float], sampled: int, features: Features, latest: Sequence[Features]
) -> float:
    """The least spread: what chance and rounding do, however alike the runs before were."""
    usual = median(earlier)
    if name == "records":
        return max(COUNT_TOLERANCE * usual, math.sqrt(max(usual, 1.0)))
    kind, _, field = name.partition(":")
    if kind in ("failure_rate", "null_rate", "numeric_rate"):
        number = features.get("records", 0.0) if kind == "failure_rate" else sampled
        # The rule of succession: of a share that has been 0 so far a small run may show one.
        share = (usual * number + 1) / (number + 2)
        return max(RATE_TOLERANCE, math.sqrt(share * (1 - share) / max(number, 1)))
    widths = [run[f"high:{field}"] - run[f"low:{field}"] for run in latest if f"high:{field}" in run]
    deviation = median(widths) / _TAILS_APART if widths else 0.0
    return max(COUNT_TOLERANCE * abs(usual), _TAIL_ERROR * deviation / math.sqrt(max(sampled, 1)), 1e-9)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
