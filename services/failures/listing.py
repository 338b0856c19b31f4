"""Reads of failures: grouped by reason, one by one, with their history. They settle nothing; see `outcomes`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.failures.selection import Selection
from stores.failure_states import UnknownFailure
from stores.tables import failure_actions, ingest_failures

Row = Mapping[str, Any]

_f = ingest_failures.c

MOST_GROUPS = 1000
"""A producer may mark records as unreadable with any reason, so there may be any number of groups."""

MOST_HISTORY = 100
"""Actions on one failure that are shown."""

LONGEST_KEPT = 65_536
"""Bytes of a payload in the history that are shown."""

LISTED = (
    "id", "dataset", "source_name", "key", "stage", "reason", "message", "state", "attempts", "failed_at",
    "topic", "partition", "offset",
)  # fmt: skip


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one dataset, stage and reason. `example_id` is the latest of them."""

    dataset: str
    stage: str
    reason: str
    count: int
    first_seen: datetime
    last_seen: datetime
    example_id: int


async def groups(connection: AsyncConnection, selection: Selection) -> list[FailureGroup]:
    """Counts per dataset, stage and reason code: the MOST_GROUPS most frequent ones, in that order."""
    by = (_f.dataset, _f.stage, _f.reason)
    query = (
        select(*by, func.count(), func.min(_f.failed_at), func.max(_f.failed_at), func.max(_f.id))
        .where(*selection.conditions())
        .group_by(*by)
        .order_by(func.count().desc(), *by)
        .limit(MOST_GROUPS)
    )
    return [FailureGroup(*row) for row in await connection.execute(query)]


async def count(connection: AsyncConnection, selection: Selection) -> int:
    """How many failures are selected."""
    query = select(func.count()).select_from(ingest_failures).where(*selection.conditions())
    return int((await connection.execute(query)).scalar_one())


async def page(connection: AsyncConnection, selection: Selection, limit: int, before: int | None = None) -> list[Row]:
    """The newest `limit` failures with an id below `before`, without their payloads."""
    query = select(*(_f[name] for name in LISTED)).where(*selection.conditions())
    if before is not None:
        query = query.where(_f.id < before)
    return await _rows(connection, query.order_by(_f.id.desc()).limit(limit))


async def following(connection: AsyncConnection, selection: Selection, limit: int, after: int = 0) -> list[Row]:
    """The oldest `limit` failures with an id above `after`, with everything: in the order in which they arrived."""
    query = select(ingest_failures).where(*selection.conditions(), _f.id > after).order_by(_f.id).limit(limit)
    return await _rows(connection, query)


async def one(connection: AsyncConnection, failure_id: int) -> Row:
    """Everything about a failure. Raises UnknownFailure."""
    found = await following(connection, Selection(ids=(failure_id,)), 1)
    if not found:
        raise UnknownFailure(f"there is no failure {failure_id}; `headrace failures list --flat` shows their ids")
    return found[0]


async def history(connection: AsyncConnection, failure_id: int) -> list[Row]:
    """What was done about it last, oldest first; of payloads before and after an edit the beginning."""
    columns = [
        func.substring(column, 1, LONGEST_KEPT).label(column.name) if column.name in ("before", "after") else column
        for column in failure_actions.c
    ]
    latest = select(*columns).where(failure_actions.c.failure_id == failure_id).order_by(failure_actions.c.id.desc())
    return (await _rows(connection, latest.limit(MOST_HISTORY)))[::-1]


async def _rows(connection: AsyncConnection, query: Select[Any]) -> list[Row]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]
