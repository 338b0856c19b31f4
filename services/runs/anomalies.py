"""Compares a run that has succeeded with those of its source before, and keeps what is unusual. See decision 0022.

The statistics are robust: a few odd runs among those before change little of what is usual.
"""

import math
from collections.abc import Sequence
from statistics import median

import msgspec
import structlog
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.runs.profile import Features, profile, sample
from stores.coverage import Outcome, Wanted
from stores.tables import etl_runs, run_profiles

log = structlog.get_logger()

FEWEST_RUNS, MOST_RUNS = 5, 20
"""Earlier runs that it takes to say what is usual, and how many are looked at."""

COUNT_TOLERANCE = 0.02
"""Of the usual number of records, or of the usual value of a field: always allowed for."""

RATE_TOLERANCE = 0.01
"""One record in a hundred: always allowed for."""

NORMAL = 1.4826
"""The median absolute deviation times this estimates the standard deviation of normal data."""

UNUSUAL = 3.5
"""The modified z-score beyond which a value is an outlier (Iglewicz and Hoaglin, 1993)."""

MOST = 1e6
"""Scores are cut at this: beyond it they say nothing more."""

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

    def __str__(self) -> str:
        feature = self.feature.replace("_", " ") + (f" of {self.field}" if self.field else "")
        return f"{feature}: {self.value:g}, usually {self.usual:g} (score {self.score:g} over {self.runs} runs)"


async def examine_run(
    engine: AsyncEngine, run_id: str, source: str, dataset: str, wanted: Wanted, outcome: Outcome
) -> list[Anomaly]:
    """Profile a run of which every record has reached its outcome; its anomalies, which are logged and kept with it.

    Takes some tens of ms when its records have landed, and reads 2,000 of them at most. Idempotent: a run that has been
    examined keeps what was found. Raises what SQLAlchemy raises when Postgres is gone.
    """
    payloads = await sample(engine, wanted)
    features = profile(sum(len(ranges) for ranges in wanted.values()), outcome.failed, payloads)
    this_run = etl_runs.c.run_id == run_id
    async with engine.begin() as connection:
        before = await _features_before(connection, run_id, source, dataset)
        row = {"run_id": run_id, "source": source, "dataset": dataset, "features": features}
        counts = {"sampled": len(payloads), "compared_with": len(before)}
        written = await connection.execute(insert(run_profiles).values(row | counts).on_conflict_do_nothing())
        if not written.rowcount:
            kept = await connection.execute(select(etl_runs.c.anomalies).where(this_run))
            return msgspec.convert(kept.scalar() or [], list[Anomaly])
        anomalies = judge(features, len(payloads), before)
        found = msgspec.to_builtins(anomalies)
        await connection.execute(update(etl_runs).where(this_run).values(anomalies=found))
    for one in found:
        log.warning("run_anomaly", source=source, run=run_id, **one)
    return anomalies


async def _features_before(connection: AsyncConnection, run_id: str, source: str, dataset: str) -> list[Features]:
    """The features of the source's latest runs but this one, newest first."""
    columns = run_profiles.c
    others = (columns.source == source) & (columns.dataset == dataset) & (columns.run_id != run_id)
    query = select(columns.features).where(others).order_by(columns.profiled_at.desc()).limit(MOST_RUNS)
    return [dict(features) for features in (await connection.execute(query)).scalars()]


def judge(features: Features, sampled: int, before: Sequence[Features]) -> list[Anomaly]:
    """The anomalies of a run against the latest runs before it, worst first. Pure. None before there are FEWEST_RUNS.

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


def spread(values: Sequence[float]) -> float:
    """The standard deviation, estimated by the median absolute deviation. Raises StatisticsError without values."""
    middle = median(values)
    return NORMAL * median([abs(value - middle) for value in values])


def robust_z(value: float, before: Sequence[float], least_spread: float) -> float:
    """The distance of `value` from the median of those before, in standard deviations, with a sign.

    `least_spread`, more than 0, is what is always allowed for: else equal values would make the least change infinite.
    """
    score = (value - median(before)) / max(spread(before), least_spread)
    return max(-MOST, min(MOST, score))


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
