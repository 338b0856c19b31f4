"""Totals over all runs and over those of each source: one query over the table of runs."""

import datetime
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runs.history import end_interrupted
from stores.tables import OUTCOMES

_SUMS = ", ".join(
    f"'{name}', coalesce(sum((outcomes->>'{name}')::bigint) FILTER (WHERE status = 'success'), 0)" for name in OUTCOMES
)

_STATS = text(f"""
    SELECT source,
        coalesce(sum(published) FILTER (WHERE status = 'success'), 0)::bigint AS total_records_processed,
        json_build_object({_SUMS})::text AS outcomes,
        round(coalesce(sum(extract(epoch FROM finished_at - started_at)) FILTER (WHERE status = 'success'), 0), 3)
            ::float8 AS total_duration_seconds,
        max(finished_at) FILTER (WHERE status = 'success') AS last_success,
        max(finished_at) FILTER (WHERE status = 'failed') AS last_failure,
        (array_agg(failure_reason ORDER BY finished_at DESC) FILTER (WHERE status = 'failed'))[1]
            AS last_failure_reason,
        count(*) AS run_count,
        count(*) FILTER (WHERE status = 'running') AS running,
        coalesce((array_agg(anomalies ORDER BY finished_at DESC) FILTER (WHERE anomalies IS NOT NULL))[1], '[]')::text
            AS anomalies
    FROM etl_runs GROUP BY GROUPING SETS ((source), ()) ORDER BY source NULLS FIRST""")  # noqa: S608 (our own words)


@dataclass(frozen=True)
class Totals:
    """Records, outcomes and seconds are those of the runs that succeeded: a failed run's records come with the next.

    In the order of the query's columns.
    """

    total_records_processed: int
    outcomes: dict[str, int]
    """Those records by outcome; of runs from before outcomes were recorded, none."""
    total_duration_seconds: float
    last_success: datetime.datetime | None
    last_failure: datetime.datetime | None
    last_failure_reason: str | None
    run_count: int
    running: int
    anomalies: list[dict[str, Any]]
    """Those of the source's latest run that was examined; in the totals over all runs, those of every source."""


@dataclass(frozen=True)
class Stats(Totals):
    """Totals over all runs, and the same of each source."""

    sources: dict[str, Totals]


async def read_stats(connection: AsyncConnection) -> Stats:
    """The totals as of now. Ends the runs that were interrupted first."""
    await end_interrupted(connection)
    found: dict[str | None, Totals] = {}
    for row in await connection.execute(_STATS):
        source, *values = row
        values[1], values[-1] = msgspec.json.decode(values[1]), msgspec.json.decode(values[-1])
        found[source] = Totals(*values)
    over_all, sources = vars(found.pop(None)), {name: totals for name, totals in found.items() if name is not None}
    anomalies = [{"source": name, **one} for name, totals in sources.items() for one in totals.anomalies]
    return Stats(**over_all | {"anomalies": anomalies, "sources": sources})
