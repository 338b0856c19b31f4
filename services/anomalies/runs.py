"""Profiles a run that has succeeded, keeps the profile, and says what is unusual about it."""

import msgspec
import structlog
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.anomalies.judgement import MOST_RUNS, Anomaly, judge
from services.anomalies.profile import Features, profile
from services.anomalies.sample import sample
from stores.coverage import Outcome, Wanted
from stores.tables import etl_runs, run_profiles

log = structlog.get_logger()

_p = run_profiles.c


async def examine_run(
    engine: AsyncEngine, run_id: str, source: str, dataset: str, wanted: Wanted, outcome: Outcome
) -> list[Anomaly]:
    """Profile a run of which every record has reached its outcome; its anomalies, which are logged and kept with it.

    Takes some tens of ms when its records have landed, and reads 2,000 of them at most. Idempotent: a run that has been
    looked at keeps what was found. Raises what SQLAlchemy raises when Postgres is gone.
    """
    payloads = await sample(engine, wanted)
    features = profile(sum(len(ranges) for ranges in wanted.values()), outcome.failed, payloads)
    async with engine.begin() as connection:
        before = await _before(connection, run_id, source, dataset)
        row = {"run_id": run_id, "source": source, "dataset": dataset, "features": features}
        counts = {"sampled": len(payloads), "compared_with": len(before)}
        written = await connection.execute(insert(run_profiles).values(row | counts).on_conflict_do_nothing())
        if not written.rowcount:
            return await _found(connection, run_id)
        found = judge(features, len(payloads), before)
        kept = update(etl_runs).where(etl_runs.c.run_id == run_id)
        await connection.execute(kept.values(anomalies=[msgspec.to_builtins(one) for one in found]))
    for one in found:
        log.warning("run_anomaly", source=source, run=run_id, **msgspec.to_builtins(one))
    return found


async def _found(connection: AsyncConnection, run_id: str) -> list[Anomaly]:
    query = select(etl_runs.c.anomalies).where(etl_runs.c.run_id == run_id)
    return msgspec.convert((await connection.execute(query)).scalar() or [], list[Anomaly])


async def _before(connection: AsyncConnection, run_id: str, source: str, dataset: str) -> list[Features]:
    """The features of the source's latest runs but this one, newest first."""
    others = (_p.source == source) & (_p.dataset == dataset) & (_p.run_id != run_id)
    query = select(_p.features).where(others).order_by(_p.profiled_at.desc()).limit(MOST_RUNS)
    return [dict(features) for features in (await connection.execute(query)).scalars()]
