"""Reads failures: grouped by reason, one by one, with their history. It settles nothing; see `settling`."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.events import HEADER_MAPPING
from schemas.masking import (
    MASK,
    dataset_of,
    masked_key,
    masked_message,
    masked_payload,
    masked_problems,
    masks,
)
from services.failures.selection import Selection
from stores.failure_states import UnknownFailure
from stores.tables import coverage, failure_actions, ingest_failures

Failure = Mapping[str, Any]
"""A row of `ingest_failures`."""

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

NOT_SHOWN = ("raw_headers", "payload", "edited_payload", "claim")


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
    """Number of selected failures."""
    query = select(func.count()).select_from(ingest_failures).where(*selection.conditions())
    return int((await connection.execute(query)).scalar_one())


async def page(
    connection: AsyncConnection, selection: Selection, limit: int, before: int | None = None, *, masked: bool = False
) -> list[Failure]:
    """The newest `limit` failures with an id below `before`, without their payloads; personal data may be masked."""
    query = select(*(_f[name] for name in LISTED)).where(*selection.conditions())
    if before is not None:
        query = query.where(_f.id < before)
    found = await rows(connection, query.order_by(_f.id.desc()).limit(limit))
    return [_masked(one) for one in found] if masked else found


async def following(connection: AsyncConnection, selection: Selection, limit: int, after: int = 0) -> list[Failure]:
    """The oldest `limit` failures with an id above `after`, with everything: in the order in which they arrived."""
    query = select(ingest_failures).where(*selection.conditions(), _f.id > after).order_by(_f.id).limit(limit)
    return await rows(connection, query)


async def one(connection: AsyncConnection, failure_id: int) -> Failure:
    """Everything about a failure. Raises UnknownFailure."""
    found = await following(connection, Selection(ids=(failure_id,)), 1)
    if not found:
        raise UnknownFailure(f"there is no failure {failure_id}; `headrace failures list --flat` shows their ids")
    return found[0]


async def history(connection: AsyncConnection, failure_id: int) -> list[Mapping[str, Any]]:
    """The last actions on a failure, oldest first; of payloads before and after an edit only the beginning."""
    columns = [
        func.substring(column, 1, LONGEST_KEPT).label(column.name) if column.name in ("before", "after") else column
        for column in failure_actions.c
    ]
    latest = select(*columns).where(failure_actions.c.failure_id == failure_id).order_by(failure_actions.c.id.desc())
    return (await rows(connection, latest.limit(MOST_HISTORY)))[::-1]


async def shown(connection: AsyncConnection, failure_id: int, *, masked: bool = False) -> dict[str, Any]:
    """Everything about a failure and its history, with payloads as JSON can carry them; personal data may be masked.

    Raises UnknownFailure.
    """
    failure = await one(connection, failure_id)
    actions = await history(connection, failure_id)
    if masked:
        actions = [_masked_action(failure, action) for action in actions]
        failure = _masked(failure)
    return {
        **{name: value for name, value in failure.items() if name not in NOT_SHOWN},
        "payload": payload_text(failure["payload"]),
        "edited_payload": payload_text(failure["edited_payload"]),
        "history": [
            {**action, "before": payload_text(action["before"]), "after": payload_text(action["after"])}
            for action in actions
        ],
    }


def masked_bytes(failure: Failure, payload: bytes | None) -> bytes | None:
    """A payload of the failure's record, without personal data. Pure."""
    mapping = (failure.get("raw_headers") or {}).get(HEADER_MAPPING)
    return masked_payload(dataset_of(failure["dataset"]), payload, mapping.encode() if mapping else None)


def _masked(failure: Failure) -> Failure:
    dataset, hidden = dataset_of(failure["dataset"]), dict[str, Any]()
    problems = failure.get("problems") or []
    for name in ("key", "replayed_key", "blocked_by"):
        if name in failure:
            hidden[name] = masked_key(dataset, failure[name])
    for name in ("payload", "edited_payload"):
        if name in failure:
            hidden[name] = masked_bytes(failure, failure[name])
    if "problems" in failure:
        hidden["problems"] = masked_problems(dataset, problems)
    return {**failure, **hidden, "message": masked_message(dataset, failure["message"], problems)}


def _masked_action(failure: Failure, action: Mapping[str, Any]) -> Mapping[str, Any]:
    payloads = {name: masked_bytes(failure, action[name]) for name in ("before", "after")}
    note = (
        MASK if action["note"] and masks(dataset_of(failure["dataset"])) and "@" in action["note"] else action["note"]
    )
    return {**action, **payloads, "note": note}


def payload_text(payload: bytes | None) -> dict[str, str] | None:
    """`{encoding, content}`: text if the bytes are UTF-8, base64 otherwise; None for no payload. Pure."""
    if payload is None:
        return None
    try:
        return {"encoding": "utf-8", "content": payload.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "content": base64.b64encode(payload).decode()}


async def count_held(connection: AsyncConnection) -> int:
    """Number of held records in all datasets. Costs a row per partition."""
    return int((await connection.execute(select(func.coalesce(func.sum(coverage.c.held), 0)))).scalar_one())


async def rows(
    connection: AsyncConnection, query: Executable, parameters: Mapping[str, Any] | None = None
) -> list[Mapping[str, Any]]:
    """The rows of a query as dictionaries."""
    return [dict(row) for row in (await connection.execute(query, parameters)).mappings()]
