"""Changes that people make to failures. Each leaves who, when and what in `failure_actions`, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.failures.held import book_as_failed, lock_books
from services.failures.selection import Selection
from stores.failure_states import UnknownFailure, refuse_all
from stores.tables import failure_actions, ingest_failures

MOST_IDS = 1000
"""Ids in one request; for more there are filters."""

MOST_ID = 2**63 - 1
"""The largest id that a failure can have."""

_f = ingest_failures.c


async def note(
    connection: AsyncConnection,
    ids: Sequence[int],
    action: str,
    who: str,
    *,
    job: int | None = None,
    text: str | None = None,
) -> None:
    """Leave a trace of the same action on each failure."""
    if ids:
        rows = [{"failure_id": number, "job_id": job, "action": action, "who": who, "note": text} for number in ids]
        await connection.execute(insert(failure_actions), rows)


async def lock(connection: AsyncConnection, ids: Sequence[int]) -> list[Mapping[str, Any]]:
    """Those failures (at least one), locked until the transaction ends, in order of id. Raises UnknownFailure."""
    query = select(ingest_failures).where(*Selection(ids=tuple(ids)).conditions()).order_by(_f.id).with_for_update()
    rows: list[Mapping[str, Any]] = [dict(row) for row in (await connection.execute(query)).mappings()]
    if strangers := sorted(set(ids) - {row["id"] for row in rows}):
        raise UnknownFailure(f"there is no failure {', '.join(map(str, strangers))}")
    return rows


def not_actionable(row: Mapping[str, Any]) -> str | None:
    """Why nothing can be done about a failure in its state now, or None. Pure."""
    match row["state"]:
        case "open" | "parked":
            return None
        case "held":
            return "it is held with the others of its source; `headrace failures release` sends it on its way"
        case "queued":
            return f"replay job {row['replay_job']} is about to send it; `headrace failures cancel` stops the job"
        case "replayed":
            return "it has been sent again and is on its way; `headrace failures show` will tell its outcome"
        case "failed_again":
            return f"it failed again as failure {row['failed_again_as']}; act on that one"
        case state:
            return f"it is {state} already"


async def discard(connection: AsyncConnection, ids: Sequence[int], who: str, why: str) -> None:
    """Decide against failures, for a stated reason. All or none. Raises ActionRefused, UnknownFailure."""
    await lock_books(connection, Selection(ids=tuple(ids)))
    rows = await lock(connection, ids)
    held = [row for row in rows if row["state"] == "held"]
    if refusals := {row["id"]: reason for row in rows if row not in held and (reason := not_actionable(row))}:
        raise refuse_all(refusals)
    await book_as_failed(connection, held)
    await connection.execute(
        update(ingest_failures).where(_f.id.in_(ids)).values(state="discarded", updated_at=func.now())
    )
    await note(connection, [row["id"] for row in rows], "discarded", who, text=why)


async def discard_held(connection: AsyncConnection, selection: Selection, who: str, why: str) -> int:
    """Decide against all held records that are selected; returns how many. In the caller's transaction."""
    wanted = replace(selection, states=("held",))
    await lock_books(connection, wanted)
    discarded = 0
    query = select(_f.id).where(*wanted.conditions()).order_by(_f.id).limit(MOST_IDS)
    while ids := list((await connection.execute(query)).scalars()):
        await discard(connection, ids, who, why)
        discarded += len(ids)
    return discarded


async def save_edit(
    connection: AsyncConnection,
    failure_id: int,
    who: str,
    *,
    before: bytes | None,
    after: bytes,
    headers: Mapping[str, str],
    text: str | None,
) -> None:
    """Keep an edited payload for the next retry, and the raw record's headers with it. Raises ActionRefused."""
    (row,) = await lock(connection, [failure_id])
    if row["state"] != "held" and (reason := not_actionable(row)):
        raise refuse_all({failure_id: reason})
    changed = {"edited_payload": after, "raw_headers": dict(headers), "updated_at": func.now()}
    await connection.execute(update(ingest_failures).where(_f.id == failure_id).values(changed))
    action = {"failure_id": failure_id, "action": "edited", "who": who, "note": text, "before": before, "after": after}
    await connection.execute(insert(failure_actions).values(action))
