"""Replay jobs in Postgres: the failures that are to be sent again, and how far that is. `replay` does the sending.

Any process may pause or cancel a job, and resume it when the one that ran it is gone.
The process that runs a job renews a lease on it, and holds no connection for that; a lease that runs out ends the job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Integer, Text, bindparam, case, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.failures.actions import note
from services.failures.listing import Failure, rows
from services.failures.selection import Selection
from stores.advisory_locks import REPLAY_JOBS, lock_until_commit
from stores.failure_states import ActionRefused, JobState, UnknownFailure
from stores.tables import failure_actions, failure_replays, ingest_failures

MOST_ID = 2**31 - 1
"""The largest id that a job can have."""

LEASE_SECONDS = 15.0
"""A process that was killed keeps its job, and the failures queued for it, for so long."""

MOST_UNDER_WAY = 20
"""Jobs at once, over all processes: each reads records back, sends and notes some several times a second."""

LOWEST_RATE, HIGHEST_RATE = 0.1, 100_000.0
"""Records/s that a job may be capped at."""

_f = ingest_failures.c
_j = failure_replays.c

_JOBS = """
    SELECT j.id, j.state, j.selection, j.rate, j.forced, j.total, j.sent, j.skipped, j.who, j.started_at, j.ended_at,
        j.attended_by IS NOT NULL AND j.attended_until > now() AS attended FROM failure_replays j"""

_LEASE = f"now() + interval '{LEASE_SECONDS} seconds'"

_TAKE_LEASE = text(f"""
    UPDATE failure_replays SET attended_by = :holder, attended_until = {_LEASE}
    WHERE id = :id AND (attended_by IS NULL OR attended_by = :holder OR attended_until <= now())""")  # noqa: S608

_INTERRUPTED = text("""
    UPDATE failure_replays SET state = 'interrupted', ended_at = now()
    WHERE state = 'running' AND (attended_until IS NULL OR attended_until <= now()) RETURNING id""")

_QUEUE_AGAIN = text("""
    UPDATE ingest_failures f SET state = 'queued', updated_at = now() FROM failure_replays j
    WHERE j.id = :id AND f.replay_job = j.id AND (f.state = 'open' OR (j.forced AND f.state = 'parked'))
        AND NOT EXISTS (SELECT FROM failure_actions a
            WHERE a.failure_id = f.id AND a.job_id = j.id AND a.action = 'skipped')""")

_DELIVERED = text("""
    UPDATE ingest_failures f SET state = 'replayed', attempts = attempts + 1, updated_at = now(),
        replayed_topic = d.topic, replayed_partition = d.part, replayed_offset = d.place, replayed_key = d.key
    FROM unnest(:failure_id, :topic, :partition, :offset, :key) AS d (id, topic, part, place, key)
    WHERE f.id = d.id AND f.replay_job = :job_id AND f.state IN ('queued', 'open', 'parked')""").bindparams(
    bindparam("failure_id", type_=ARRAY(BigInteger)),
    bindparam("topic", type_=ARRAY(Text)),
    bindparam("partition", type_=ARRAY(Integer)),
    bindparam("offset", type_=ARRAY(BigInteger)),
    bindparam("key", type_=ARRAY(Text)),
)


@dataclass(frozen=True)
class ReplayJob:
    """A replay job. `attended`: a process is running it now."""

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
    """A failure that the broker has confirmed again, at these coordinates. `key` is its key if it is valid."""

    failure_id: int
    topic: str
    partition: int
    offset: int
    key: str | None


async def jobs(connection: AsyncConnection, limit: int = 50) -> list[ReplayJob]:
    """The latest jobs, newest first."""
    found = await connection.execute(text(f"{_JOBS} ORDER BY j.id DESC LIMIT :limit"), {"limit": limit})
    return [ReplayJob(*row) for row in found]


async def job(connection: AsyncConnection, job_id: int) -> ReplayJob:
    """One job. Raises UnknownFailure."""
    row = (await connection.execute(text(f"{_JOBS} WHERE j.id = :id"), {"id": job_id})).one_or_none()
    if row is None:
        raise UnknownFailure(f"there is no replay job {job_id}; `headrace failures jobs` lists them")
    return ReplayJob(*row)


async def create(
    connection: AsyncConnection, selection: Selection, who: str, *, rate: float | None, forced: bool
) -> ReplayJob:
    """Queue the selected failures that are open (forced: parked too) for a new job. `rate` in records/s, or no cap.

    The job is its creator's to run for LEASE_SECONDS. Raises ActionRefused for a rate out of bounds, and where
    MOST_UNDER_WAY jobs are running.
    """
    if rate is not None and not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ActionRefused(f"a rate of {rate} records/s is none; it goes from {LOWEST_RATE:g} to {HIGHEST_RATE:,.0f}")
    await _require_room(connection)
    states = ("open", "parked") if forced else ("open",)
    about = {"selection": selection.as_json(), "rate": rate, "forced": forced, "who": who}
    begun = {"state": "running", "total": 0, "started_at": func.now(), "attended_until": text(_LEASE)}
    job_id = (await connection.execute(insert(failure_replays).values(about | begun).returning(_j.id))).scalar_one()
    queue = update(ingest_failures).where(*selection.conditions(), _f.state.in_(states))
    queued = await connection.execute(queue.values(state="queued", replay_job=job_id, updated_at=func.now()))
    await connection.execute(update(failure_replays).where(_j.id == job_id).values(total=queued.rowcount))
    return await job(connection, job_id)


async def take_lease(connection: AsyncConnection, job_id: int, holder: str) -> bool:
    """Take or renew the lease on a job, for LEASE_SECONDS from now; False if another holder has it."""
    return bool((await connection.execute(_TAKE_LEASE, {"id": job_id, "holder": holder})).rowcount)


async def return_lease(connection: AsyncConnection, job_id: int, holder: str) -> None:
    """Give the lease back."""
    mine = update(failure_replays).where(_j.id == job_id, _j.attended_by == holder)
    await connection.execute(mine.values(attended_by=None, attended_until=None))


async def end_interrupted(connection: AsyncConnection, replay_limit: int) -> None:
    """End the jobs whose lease has run out: what they have queued is open again (parked, if it was). Idempotent."""
    for job_id in (await connection.execute(_INTERRUPTED)).scalars().all():
        await connection.execute(_reopen(job_id, replay_limit))


async def next_failures(connection: AsyncConnection, job_id: int, limit: int) -> list[Failure]:
    """The next failures that the job has to send, in the order in which they arrived; none when it is through."""
    query = select(ingest_failures).where(_f.state == "queued", _f.replay_job == job_id).order_by(_f.id).limit(limit)
    return await rows(connection, query)


async def record_delivered(connection: AsyncConnection, job_id: int, who: str, delivered: Sequence[Delivered]) -> None:
    """Note failures that the broker has confirmed: once the pipeline has taken them, `settle` tells their outcomes."""
    if not delivered:
        return
    columns = zip(*delivered, strict=True)
    arrays = dict(zip(Delivered._fields, map(list, columns), strict=True))
    await connection.execute(_DELIVERED, {**arrays, "job_id": job_id})
    await _count(connection, job_id, "sent", len(delivered))
    await note(connection, [item.failure_id for item in delivered], "retried", who, job=job_id)


async def record_skipped(
    connection: AsyncConnection, job_id: int, who: str, skipped: Mapping[int, str], *, replay_limit: int
) -> None:
    """Leave failures out of the job, each for its reason: they are open again (parked, if they were)."""
    if not skipped:
        return
    await connection.execute(_reopen(job_id, replay_limit).where(_f.id.in_(list(skipped))))
    await _count(connection, job_id, "skipped", len(skipped))
    for failure_id, reason in skipped.items():
        await note(connection, [failure_id], "skipped", who, job=job_id, text=reason)


async def outcomes(connection: AsyncConnection, job_id: int) -> dict[str, int]:
    """Number of the job's failures per state now."""
    query = select(_f.state, func.count()).where(_f.replay_job == job_id).group_by(_f.state).order_by(_f.state)
    return {state: number for state, number in await connection.execute(query)}  # noqa: C416 (rows are no pairs to mypy)


async def change_state(
    connection: AsyncConnection, job_id: int, state: JobState, who: str, *, replay_limit: int
) -> ReplayJob:
    """Pause, cancel, resume or end a job. Raises ActionRefused where that is not possible, UnknownFailure.

    Failures that an ended job has not sent are open again (parked, if they were); a job that goes on queues them again.
    """
    await connection.execute(select(_j.id).where(_j.id == job_id).with_for_update())
    current = await job(connection, job_id)
    stands_still = current.state in ("interrupted", "failed")
    if current.state in ("cancelled", "done") or (stands_still and state == "paused"):
        raise ActionRefused(f"replay job {job_id} is {current.state} already")
    trace = {"job_id": job_id, "action": "started" if state == "running" else state, "who": who}
    await connection.execute(insert(failure_actions).values(trace))
    if state == "running" and current.state != "running":
        await _require_room(connection)
        if stands_still:
            await connection.execute(_QUEUE_AGAIN, {"id": job_id})
    ended = func.now() if state not in ("running", "paused") else None
    changed = {"state": state, "ended_at": ended} | ({"attended_until": text(_LEASE)} if state == "running" else {})
    await connection.execute(update(failure_replays).where(_j.id == job_id).values(changed))
    if state not in ("running", "paused"):
        await connection.execute(_reopen(job_id, replay_limit))
    return await job(connection, job_id)


def _reopen(job_id: int, replay_limit: int) -> Any:
    queued = update(ingest_failures).where(_f.replay_job == job_id, _f.state == "queued")
    return queued.values(state=case((_f.attempts >= replay_limit, "parked"), else_="open"), updated_at=func.now())


async def _require_room(connection: AsyncConnection) -> None:
    # Until the transaction ends, so that two at once don't take the same last place.
    await lock_until_commit(connection, REPLAY_JOBS)
    running = select(func.count()).where(_j.state == "running", _j.attended_until > func.now())
    if (number := (await connection.execute(running)).scalar_one()) >= MOST_UNDER_WAY:
        raise ActionRefused(
            f"{number} replay jobs are under way, and no more run at once: wait for one to end, or end one with "
            "`headrace failures cancel JOB`; `headrace failures jobs` lists them"
        )


async def _count(connection: AsyncConnection, job_id: int, column: str, more: int) -> None:
    counted = _j[column]
    await connection.execute(update(failure_replays).where(_j.id == job_id).values({column: counted + more}))
