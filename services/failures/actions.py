"""Actions of people on failures: who, when and what is kept in `failure_actions`, in one transaction with the change.

A change of held records locks their partitions' coverage first, as the sink does, so that there is no deadlock.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.failures.listing import Failure, rows
from services.failures.selection import Selection
from stores.failure_states import UnknownFailure, refuse_all
from stores.tables import coverage, failure_actions, ingest_failures, run_outcomes

MOST_IDS = 1000
"""Ids in one request; for more there are filters."""

MOST_ID = 2**53 - 1
"""The largest id that a failure will have: beyond it not every client of JSON tells one number from the next."""

_f = ingest_failures.c
_c = coverage.c


async def note(
    connection: AsyncConnection,
    ids: Sequence[int],
    action: str,
    who: str,
    *,
    job: int | None = None,
    text: str | None = None,
) -> None:
    """Note the same action for each failure."""
    if ids:
        actions = [{"failure_id": number, "job_id": job, "action": action, "who": who, "note": text} for number in ids]
        await connection.execute(insert(failure_actions), actions)


async def lock(connection: AsyncConnection, ids: Sequence[int]) -> list[Failure]:
    """Those failures (at least one), locked until the transaction ends, in order of id. Raises UnknownFailure."""
    query = select(ingest_failures).where(*Selection(ids=tuple(ids)).conditions()).order_by(_f.id).with_for_update()
    failures = await rows(connection, query)
    if unknown := sorted(set(ids) - {failure["id"] for failure in failures}):
        raise UnknownFailure(f"there is no failure {', '.join(map(str, unknown))}")
    return failures


def not_actionable(failure: Failure) -> str | None:
    """The reason why nothing can be done about a failure in its state now, or None. Pure."""
    match failure["state"]:
        case "open" | "parked":
            return None
        case "held":
            return "it is held with the others of its source; `headrace failures release` sends it on its way"
        case "queued":
            return f"replay job {failure['replay_job']} is about to send it; `headrace failures cancel` stops the job"
        case "replayed":
            return "it has been sent again and is on its way; `headrace failures show` will tell its outcome"
        case "failed_again":
            return f"it failed again as failure {failure['failed_again_as']}; act on that one"
        case state:
            return f"it is {state} already"


async def discard(connection: AsyncConnection, ids: Sequence[int], who: str, why: str) -> None:
    """Decide against failures, for a stated reason. All or none. Raises ActionRefused, UnknownFailure."""
    await _lock_coverage(connection, Selection(ids=tuple(ids)))
    failures = await lock(connection, ids)
    held = [failure for failure in failures if failure["state"] == "held"]
    others = [failure for failure in failures if failure["state"] != "held"]
    if refusals := {failure["id"]: reason for failure in others if (reason := not_actionable(failure))}:
        raise refuse_all(refusals)
    await _count_as_failed(connection, held)
    await connection.execute(
        update(ingest_failures).where(_f.id.in_(ids)).values(state="discarded", updated_at=func.now())
    )
    await note(connection, [failure["id"] for failure in failures], "discarded", who, text=why)


async def discard_held(connection: AsyncConnection, selection: Selection, who: str, why: str) -> int:
    """Decide against all held records that are selected; returns how many. In the caller's transaction."""
    wanted = replace(selection, states=("held",))
    await _lock_coverage(connection, wanted)
    discarded = 0
    query = select(_f.id).where(*wanted.conditions()).order_by(_f.id).limit(MOST_IDS)
    while ids := list((await connection.execute(query)).scalars()):
        await discard(connection, ids, who, why)
        discarded += len(ids)
    return discarded


async def _lock_coverage(connection: AsyncConnection, selection: Selection) -> None:
    partitions = select(_f.topic, _f.partition).where(*selection.conditions(), _f.state == "held")
    query = select(_c.topic).where(tuple_(_c.topic, _c.partition).in_(partitions)).order_by(_c.topic, _c.partition)
    await connection.execute(query.with_for_update())


async def _count_as_failed(connection: AsyncConnection, held: Sequence[Failure]) -> None:
    """Count records as failed that were held until now; their coverage must be locked."""
    counts = Counter((failure["topic"], failure["partition"], failure["run_id"]) for failure in held)
    for (topic, partition, run), number in counts.items():
        for table, of_run in ((coverage, ()), (run_outcomes, (run_outcomes.c.run_id == run,))):
            c = table.c
            counted = update(table).where(c.topic == topic, c.partition == partition, *of_run)
            await connection.execute(counted.values({"held": c.held - number, "failed": c.failed + number}))
