"""Reads `schema_drift`: how the fields of sources have changed."""

from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from stores.tables import schema_drift

_d = schema_drift.c


def wanted(
    source: str | None, dataset: str | None, what: str | None, *, breaking: bool | None, ended: bool | None
) -> list[ColumnElement[bool]]:
    """Conditions for what is given; none for what is None."""
    found: list[ColumnElement[bool]] = []
    for column, value in ((_d.source_name, source), (_d.dataset, dataset), (_d.what, what)):
        if value is not None:
            found.append(column == value)
    if breaking is not None:
        found.append(_d.reason.is_not(None) if breaking else _d.reason.is_(None))
    if ended is not None:
        found.append(_d.ended_at.is_not(None) if ended else _d.ended_at.is_(None))
    return found


async def count(connection: AsyncConnection, conditions: list[ColumnElement[bool]]) -> int:
    """Number of drifts that satisfy all conditions."""
    return int(
        (await connection.execute(select(func.count()).select_from(schema_drift).where(*conditions))).scalar_one()
    )


async def page(
    connection: AsyncConnection, conditions: list[ColumnElement[bool]], offset: int, limit: int
) -> list[dict[str, Any]]:
    """A part of them, the latest first."""
    query = select(schema_drift).where(*conditions).order_by(_d.id.desc()).offset(offset).limit(limit)
    return [_shown(row) for row in (await connection.execute(query)).mappings()]


def _shown(row: RowMapping) -> dict[str, Any]:
    drift = dict(row)
    drift["source"] = drift.pop("source_name")
    drift["breaking"] = drift["reason"] is not None
    place = {name: drift.pop(name) for name in ("topic", "partition", "offset")}
    drift["example"] = {"text": drift["example"], **place} if place["topic"] is not None else None
    return drift
