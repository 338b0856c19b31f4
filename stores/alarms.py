"""Open alarms and those of the last weeks, in Postgres: they survive a restart of the monitor, and anybody may read."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_DAYS = 30

_SAVE = text("""
    INSERT INTO alarms (id, rule, subject, opened_at, closed_at, body)
    VALUES (:id, :rule, :subject, to_timestamp(:opened_at), to_timestamp(CAST(:closed_at AS float8)),
        CAST(:body AS jsonb))
    ON CONFLICT (id) DO UPDATE SET closed_at = excluded.closed_at, body = excluded.body""")

_FORGET = text(f"DELETE FROM alarms WHERE closed_at < now() - make_interval(days => {KEPT_DAYS})")  # noqa: S608 (a number)

_OPEN = text("SELECT body FROM alarms WHERE closed_at IS NULL ORDER BY opened_at, id")
_CLOSED = text("SELECT body FROM alarms WHERE closed_at IS NOT NULL ORDER BY closed_at DESC, id LIMIT :limit")


async def save_alarms(connection: AsyncConnection, alarms: Sequence[dict[str, Any]]) -> None:
    """Keep these alarms as they are now, by id, in the caller's transaction. Idempotent."""
    rows = [
        {name: one[name] for name in ("id", "rule", "subject", "opened_at", "closed_at")} | {"body": json.dumps(one)}
        for one in alarms
    ]
    if rows:
        await connection.execute(_SAVE, rows)
        await connection.execute(_FORGET)


async def open_alarms(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Alarms that are open, oldest first."""
    return [row.body for row in await connection.execute(_OPEN)]


async def closed_alarms(connection: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """Alarms that have been closed, the latest first."""
    return [row.body for row in await connection.execute(_CLOSED, {"limit": limit})]
