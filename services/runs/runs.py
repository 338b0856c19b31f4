"""The table of runs: written by who runs, read by who asks."""

import datetime
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, extract, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from stores.advisory_locks import RUN_HOLDER
from stores.tables import etl_runs

Status = Literal["running", "success", "failed"]

INTERRUPTED = "interrupted"
"""The reason of a run whose process ended without a word."""


@dataclass(frozen=True)
class RunRow:
    """A run as it is recorded. Counts are None until they are known, and `finished_at` until it has ended."""

    run_id: str
    source: str
    dataset: str
    trigger: str
    """Who asked for it: api, publish, run or schedule."""
    status: Status
    started_at: datetime.datetime
    finished_at: datetime.datetime | None
    published: int | None
    stored: int | None
    failed: int | None
    outcomes: dict[str, int] | None
    """`stored` and `failed` by what became of the records: inserted, updated, unchanged, superseded, deleted, failed,
    held, and expired if Kafka has lost any. Of a failed run: so far as it was known when it ended."""
    failure_reason: str | None
    anomalies: list[Any] | None
    """What was unlike the source's runs before; None until it has been examined (`services/anomalies/judgement.py`)."""
    encoding: str | None
    """In which a source's text was read, and how sure that was if guessed; None where it is not to be found out."""
    created_at: datetime.datetime


_COLUMNS = [etl_runs.c[name] for name in RunRow.__dataclass_fields__]
_NEWEST = (etl_runs.c.started_at.desc(), etl_runs.c.run_id)

_END_INTERRUPTED = text(f"""
    UPDATE etl_runs SET status = 'failed', finished_at = now(), failure_reason = '{INTERRUPTED}'
    WHERE status = 'running' AND NOT EXISTS ({RUN_HOLDER.format(source="etl_runs.source")})""")  # noqa: S608 (our own words)


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
    stored: int | None = None,
    failed: int | None = None,
    outcomes: dict[str, int] | None = None,
    failure_reason: str | None = None,
    encoding: str | None = None,
) -> None:
    """Record how a run ended: as a failure if there is a reason. A success stays one. Idempotent.

    Its own process knows best: a run that somebody took for interrupted while Postgres was away is set right.
    """
    values = {
        "status": "success" if failure_reason is None else "failed",
        "finished_at": func.now(),
        "published": published,
        "stored": stored,
        "failed": failed,
        "outcomes": outcomes,
        "failure_reason": failure_reason,
        "encoding": encoding,
    }
    open_still = (etl_runs.c.run_id == run_id) & (etl_runs.c.status != "success")
    await connection.execute(update(etl_runs).where(open_still).values(values))


async def end_interrupted(connection: AsyncConnection) -> int:
    """Set runs to `failed` whose process is gone: they are `running`, and nobody holds their source's lock.

    Writes only if there are any `running`; safe beside runs that begin and end. How many there were.
    """
    running = select(etl_runs.c.run_id).where(etl_runs.c.status == "running").limit(1)
    if (await connection.execute(running)).first() is None:
        return 0
    return (await connection.execute(_END_INTERRUPTED)).rowcount


async def running_run(connection: AsyncConnection, source: str) -> str | None:
    """The id of the latest run of a source that is `running`."""
    running = (etl_runs.c.source == source) & (etl_runs.c.status == "running")
    query = select(etl_runs.c.run_id).where(running).order_by(*_NEWEST).limit(1)
    return (await connection.execute(query)).scalar_one_or_none()


async def read_run(connection: AsyncConnection, run_id: str) -> RunRow | None:
    """One run."""
    row = (await connection.execute(select(*_COLUMNS).where(etl_runs.c.run_id == run_id))).mappings().first()
    return RunRow(**row) if row else None


async def list_runs(
    connection: AsyncConnection, *, source: str | None = None, status: str | None = None, offset: int = 0, limit: int
) -> tuple[list[RunRow], int]:
    """Runs, newest first, from `offset` on, and how many there are in all."""
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


async def seconds_since_latest(connection: AsyncConnection) -> dict[str, float]:
    """How long ago, by Postgres's clock, each source's latest run began that goes on or succeeded."""
    seconds = extract("epoch", func.now() - func.max(etl_runs.c.started_at))
    query = select(etl_runs.c.source, seconds).where(etl_runs.c.status != "failed").group_by(etl_runs.c.source)
    return {source: float(since) for source, since in (await connection.execute(query)).all()}
