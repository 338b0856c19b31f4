"""The table of runs: written by who runs, read by who asks. Reading ends the runs whose process is gone."""

import datetime
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import Select, extract, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.errors import Explained
from runtime.settings import Settings
from stores.advisory_locks import RUN_HOLDER
from stores.coverage import Outcome
from stores.postgres_connection import CONNECT_SECONDS
from stores.postgres_engine import postgres_engine
from stores.tables import OUTCOMES, etl_runs

T = TypeVar("T")

Status = Literal["running", "success", "failed"]

INTERRUPTED = "interrupted"
"""The reason of a run whose process ended without a word."""

FORGOTTEN = ("etl_runs", "etl_checkpoint", "run_profiles")
"""Tables with a column `source`: the history of runs, how far each source has been read, what its runs looked like."""


class StillRunning(Explained):
    """Nothing is forgotten of a run that is under way."""


class UnknownSource(Explained):
    """A source of that name is not declared and has never run."""


@dataclass(frozen=True)
class RunRow:
    """A run as it is recorded. Counts are None until they are known, and `finished_at` until it has ended."""

    run_id: str
    source: str
    dataset: str
    trigger: str
    """The asker: api, publish, run or schedule."""
    status: Status
    started_at: datetime.datetime
    finished_at: datetime.datetime | None
    published: int | None
    stored: int | None
    failed: int | None
    outcomes: dict[str, int] | None
    """`stored` and `failed` by the records' outcomes: inserted, updated, unchanged, superseded, deleted, failed,
    held, and expired if Kafka has lost any. Of a failed run: so far as it was known when it ended."""
    failure_reason: str | None
    anomalies: list[Any] | None
    """Features unlike the source's runs before; None until it has been examined (`services/runs/anomalies.py`)."""
    encoding: str | None
    """The encoding of the source's text, and how sure it is if guessed; None where none had to be found out."""
    created_at: datetime.datetime


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


_COLUMNS = [etl_runs.c[name] for name in RunRow.__dataclass_fields__]
_NEWEST = (etl_runs.c.started_at.desc(), etl_runs.c.run_id)

_END_INTERRUPTED = text(f"""
    UPDATE etl_runs SET status = 'failed', finished_at = now(), failure_reason = '{INTERRUPTED}'
    WHERE status = 'running' AND NOT EXISTS ({RUN_HOLDER.format(source="etl_runs.source")})""")  # noqa: S608 (our own words)


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


async def ask(settings: Settings, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """The answer to a question about runs, asked in one transaction on a connection of its own."""
    engine = postgres_engine(settings, connect_args={"timeout": CONNECT_SECONDS})
    try:
        async with engine.begin() as connection:
            return await question(connection)
    finally:
        await engine.dispose()


async def open_run(connection: AsyncConnection, run_id: str, source: str, dataset: str, trigger: str) -> None:
    """Record that a run begins. Only for who holds the source's lock: any run of it that is `running` is none."""
    running = (etl_runs.c.source == source) & (etl_runs.c.status == "running")
    ended = {"status": "failed", "finished_at": func.now(), "failure_reason": INTERRUPTED}
    await connection.execute(update(etl_runs).where(running).values(ended))
    begun = {"source": source, "dataset": dataset, "trigger": trigger, "status": "running", "started_at": func.now()}
    await connection.execute(insert(etl_runs).values(run_id=run_id, **begun))


async def note_published(connection: AsyncConnection, run_id: str, published: int) -> None:
    """Record that the broker has confirmed all records of a run."""
    await connection.execute(update(etl_runs).where(etl_runs.c.run_id == run_id).values(published=published))


async def close_run(
    connection: AsyncConnection,
    run_id: str,
    *,
    published: int | None,
    outcome: Outcome | None,
    failure_reason: str | None = None,
    encoding: str | None = None,
) -> None:
    """Record how a run ended: as a failure if there is a reason. A success stays one. Idempotent.

    Its own process knows best: a run that somebody took for interrupted while Postgres was away is set right.
    """
    success = failure_reason is None
    values = {
        "status": "success" if success else "failed",
        "finished_at": func.now(),
        "published": published,
        "stored": outcome.stored if outcome and success else None,
        "failed": outcome.failed if outcome and success else None,
        "outcomes": (outcome.counts() or None) if outcome else None,
        "failure_reason": failure_reason,
        "encoding": encoding,
    }
    open_still = (etl_runs.c.run_id == run_id) & (etl_runs.c.status != "success")
    await connection.execute(update(etl_runs).where(open_still).values(values))


async def end_interrupted(connection: AsyncConnection) -> None:
    """Set runs to `failed` whose process is gone: they are `running`, and nobody holds their source's lock.

    Writes only if there are any `running`; safe beside runs that begin and end.
    """
    running = select(etl_runs.c.run_id).where(etl_runs.c.status == "running").limit(1)
    if (await connection.execute(running)).first() is not None:
        await connection.execute(_END_INTERRUPTED)


async def running_run(connection: AsyncConnection, source: str) -> str | None:
    """The id of the latest run of a source that is `running`."""
    running = (etl_runs.c.source == source) & (etl_runs.c.status == "running")
    query = select(etl_runs.c.run_id).where(running).order_by(*_NEWEST).limit(1)
    return (await connection.execute(query)).scalar_one_or_none()


async def read_run(connection: AsyncConnection, run_id: str) -> RunRow | None:
    """The run of that id, None if none is recorded."""
    if "\x00" in run_id:
        return None  # Postgres holds no NUL character
    await end_interrupted(connection)
    row = (await connection.execute(select(*_COLUMNS).where(etl_runs.c.run_id == run_id))).mappings().first()
    return RunRow(**row) if row else None


async def list_runs(
    connection: AsyncConnection, *, source: str | None = None, status: str | None = None, offset: int = 0, limit: int
) -> tuple[list[RunRow], int]:
    """Runs, newest first, from `offset` on, and how many there are in all."""
    await end_interrupted(connection)
    query: Select[tuple[object, ...]] = select(*_COLUMNS)
    if source:
        query = query.where(etl_runs.c.source == source)
    if status:
        query = query.where(etl_runs.c.status == status)
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    if offset >= total:
        return [], total
    rows = (await connection.execute(query.order_by(*_NEWEST).offset(offset).limit(limit))).mappings()
    return [RunRow(**row) for row in rows], total


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


async def seconds_since_latest(connection: AsyncConnection) -> dict[str, float]:
    """Seconds, by Postgres's clock, since the beginning of each source's latest run that goes on or succeeded.

    Runs to come are left out: the clock has been set back since, and nobody is to wait until then.
    """
    seconds = extract("epoch", func.now() - func.max(etl_runs.c.started_at))
    counted = (etl_runs.c.status != "failed") & (etl_runs.c.started_at <= func.now())
    query = select(etl_runs.c.source, seconds).where(counted).group_by(etl_runs.c.source)
    return {source: float(since) for source, since in (await connection.execute(query)).all()}


async def forget_runs(
    connection: AsyncConnection, sources: Sequence[str] | None = None, declared: Collection[str] = ()
) -> dict[str, int]:
    """Delete history and checkpoints of these sources, or of all; how many rows of each table. In one transaction.

    Records that are stored stay. Raises StillRunning, and UnknownSource for one that is not `declared` and has no rows.
    """
    # No run begins or ends meanwhile.
    await connection.execute(text("LOCK TABLE etl_runs IN SHARE ROW EXCLUSIVE MODE"))
    await end_interrupted(connection)
    chosen = {"all": sources is None, "sources": list(sources or [])}
    of = "(:all OR source = ANY(:sources))"
    running = text(f"SELECT source, run_id FROM etl_runs WHERE status = 'running' AND {of} LIMIT 1")  # noqa: S608
    if row := (await connection.execute(running, chosen)).first():
        raise StillRunning(f"run {row.run_id} of {row.source} is under way; wait for its end, or stop it")
    if sources:
        names = " UNION ".join(f"SELECT source FROM {table}" for table in FORGOTTEN)  # noqa: S608 (our own names)
        known = {*declared, *(await connection.execute(text(names))).scalars()}
        if unknown := [name for name in sources if name not in known]:
            raise UnknownSource(f"there is no source {unknown[0]!r}; known are: {', '.join(sorted(known)) or 'none'}")
    deleted = {}
    for table in FORGOTTEN:
        gone = await connection.execute(text(f"DELETE FROM {table} WHERE {of}"), chosen)  # noqa: S608 (our own name)
        deleted[table] = gone.rowcount
    return deleted
