"""Replay jobs: which failures are to be sent again, how far that is, and whether it may go on.

A job belongs to nobody: any process may pause or cancel it, and take it up again when the one that ran it is gone.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Integer, Text, bindparam, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.failures.actions import note
from runtime.failures.selection import Selection
from runtime.failures.states import ActionRefused, JobState, UnknownFailure
from runtime.tables import failure_actions, failure_replays, ingest_failures

LOCK_CLASS = 0x6865_6164
"""Advisory locks (LOCK_CLASS, job id): held by the session that runs the job, so it ends with it, kill -9 or not."""

_f = ingest_failures.c
_j = failure_replays.c

_JOBS = f"""
    SELECT j.*, EXISTS (
        SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
        WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {LOCK_CLASS} AND l.objid = j.id
    ) AS attended FROM failure_replays j"""  # noqa: S608 (a number of ours)


_DELIVERED = text("""
    UPDATE ingest_failures f SET state = 'replayed', attempts = attempts + 1, updated_at = now(),
        replayed_topic = d.topic, replayed_partition = d.part, replayed_offset = d.place, replayed_key = d.key
    FROM unnest(:failure_id, :topic, :partition, :offset, :key) AS d (id, topic, part, place, key)
    WHERE f.id = d.id""").bindparams(
    bindparam("failure_id", type_=ARRAY(BigInteger)),
    bindparam("topic", type_=ARRAY(Text)),
    bindparam("partition", type_=ARRAY(Integer)),
    bindparam("offset", type_=ARRAY(BigInteger)),
    bindparam("key", type_=ARRAY(Text)),
)


class Job(NamedTuple):
    """A replay job. `attended`: some process is running it now; a running job without one was interrupted."""

    id: int
    state: JobState
    selection: Mapping[str, Any]
    rate: float | None
    forced: bool
    total: int
    sent: int
    skipped: int
    who: str
    started_at: datetime
    ended_at: datetime | None
    attended: bool


class Delivered(NamedTuple):
    """A failure that the broker has confirmed again, at these coordinates. `key` is its key if it validates."""

    failure_id: int
    topic: str
    partition: int
    offset: int
    key: str | None


async def jobs(connection: AsyncConnection, limit: int = 50) -> list[Job]:
    """The latest jobs, newest first."""
    rows = await connection.execute(text(f"{_JOBS} ORDER BY j.id DESC LIMIT :limit"), {"limit": limit})
    return [Job(*row) for row in rows]


async def job(connection: AsyncConnection, job_id: int) -> Job:
    """One job. Raises UnknownFailure."""
    row = (await connection.execute(text(f"{_JOBS} WHERE j.id = :id"), {"id": job_id})).one_or_none()
    if row is None:
        raise UnknownFailure(f"there is no replay job {job_id}; `headrace failures jobs` lists them")
    return Job(*row)


async def create(
    connection: AsyncConnection, selection: Selection, who: str, *, rate: float | None, forced: bool
) -> Job:
    """Queue the selected failures that are open (forced: parked too) for a new job. `rate` in records/s, or no cap."""
    states = ("open", "parked") if forced else ("open",)
    values = {
        "state": "running",
        "selection": selection.as_json(),
        "rate": rate,
        "forced": forced,
        "total": 0,
        "who": who,
    }
    statement = insert(failure_replays).values(**values, started_at=func.now()).returning(_j.id)
    job_id = (await connection.execute(statement)).scalar_one()
    queue = update(ingest_failures).where(*selection.conditions(), _f.state.in_(states))
    queued = await connection.execute(queue.values(state="queued", replay_job=job_id, updated_at=func.now()))
    await connection.execute(update(failure_replays).where(_j.id == job_id).values(total=queued.rowcount))
    return await job(connection, job_id)


async def attend(connection: AsyncConnection, job_id: int) -> bool:
    """Take the job for this session, until it ends or `leave`s; False if another one has it. Not transactional."""
    query = text("SELECT pg_try_advisory_lock(:class, :id)")
    return bool((await connection.execute(query, {"class": LOCK_CLASS, "id": job_id})).scalar_one())


async def leave(connection: AsyncConnection, job_id: int) -> None:
    """Give back what `attend` took."""
    await connection.execute(text("SELECT pg_advisory_unlock(:class, :id)"), {"class": LOCK_CLASS, "id": job_id})


async def next_failures(connection: AsyncConnection, job_id: int, limit: int) -> list[Mapping[str, Any]]:
    """The next failures that the job has to send, in the order in which they arrived; none when it is through."""
    query = select(ingest_failures).where(_f.state == "queued", _f.replay_job == job_id).order_by(_f.id).limit(limit)
    rows: list[Mapping[str, Any]] = [dict(row) for row in (await connection.execute(query)).mappings()]
    return rows


async def record_delivered(connection: AsyncConnection, job_id: int, who: str, delivered: Sequence[Delivered]) -> None:
    """Note what the broker has confirmed: once the pipeline has taken it, `settle` tells its outcome."""
    if not delivered:
        return
    columns = zip(*delivered, strict=True)
    arrays = dict(zip(Delivered._fields, map(list, columns), strict=True))
    await connection.execute(_DELIVERED, arrays)
    await _count(connection, job_id, "sent", len(delivered))
    await note(connection, [item.failure_id for item in delivered], "retried", who, job=job_id)


async def record_skipped(connection: AsyncConnection, job_id: int, who: str, skipped: Mapping[int, str]) -> None:
    """Leave failures out of the job, each for its reason: they are open again."""
    if not skipped:
        return
    await connection.execute(_release(job_id).where(_f.id.in_(list(skipped))))
    await _count(connection, job_id, "skipped", len(skipped))
    for failure_id, reason in skipped.items():
        await note(connection, [failure_id], "skipped", who, job=job_id, text=reason)


async def outcomes(connection: AsyncConnection, job_id: int) -> dict[str, int]:
    """How many of the job's failures are in each state now."""
    query = select(_f.state, func.count()).where(_f.replay_job == job_id).group_by(_f.state).order_by(_f.state)
    return {state: number for state, number in await connection.execute(query)}  # noqa: C416 (rows are no pairs to mypy)


async def change_state(
    connection: AsyncConnection, job_id: int, state: JobState, who: str, *, replay_limit: int
) -> Job:
    """Pause, cancel, go on with or end a job. Raises ActionRefused for one that has ended, UnknownFailure.

    What a cancelled job has not sent yet is open again (parked, if it was).
    """
    await connection.execute(select(_j.id).where(_j.id == job_id).with_for_update())
    current = await job(connection, job_id)
    if current.state in ("cancelled", "done"):
        raise ActionRefused(f"replay job {job_id} is {current.state} already")
    trace = {"job_id": job_id, "action": "started" if state == "running" else state, "who": who}
    await connection.execute(insert(failure_actions).values(trace))
    ended = func.now() if state in ("cancelled", "done") else None
    await connection.execute(update(failure_replays).where(_j.id == job_id).values(state=state, ended_at=ended))
    if state == "cancelled":
        await connection.execute(_release(job_id))
        parked = update(ingest_failures).where(_f.replay_job == job_id, _f.state == "open", _f.attempts >= replay_limit)
        await connection.execute(parked.values(state="parked"))
    return await job(connection, job_id)


def _release(job_id: int) -> Any:
    queued = update(ingest_failures).where(_f.replay_job == job_id, _f.state == "queued")
    return queued.values(state="open", updated_at=func.now())


async def _count(connection: AsyncConnection, job_id: int, column: str, more: int) -> None:
    counted = _j[column]
    await connection.execute(update(failure_replays).where(_j.id == job_id).values({column: counted + more}))
