"""`GET /schema-drift`: fields that sources have gained, lost or retyped."""

import datetime
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import ColumnElement, RowMapping, func, select

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import OurClients
from api.database import reading
from api.parameters import Limit, OptionalText, Page, StrictRoute
from api.personal import Masked
from schemas.masking import MASK, dataset_of, masks
from stores.tables import schema_drift

router = APIRouter(tags=["sources"], route_class=StrictRoute)


class DriftExample(BaseModel):
    """A value, or a record without the field, with the raw record's coordinates."""

    text: str | None
    topic: str
    partition: int
    offset: int


class Drift(BaseModel):
    """A field that a source has gained, lost or retyped."""

    id: int
    source: str
    dataset: str
    field: str
    what: Literal["gained", "lost", "retyped"]
    from_type: str | None
    to_type: str | None
    reason: str | None
    since: datetime.datetime
    last_seen: datetime.datetime
    records: int
    run_id: str | None
    example: DriftExample | None
    detected_at: datetime.datetime
    ended_at: datetime.datetime | None
    breaking: bool


class DriftPage(BaseModel):
    """Drifts, the latest first."""

    data: list[Drift]
    total: int
    page: int
    limit: int


@router.get("/schema-drift", response_model=DriftPage, summary="Fields that sources have gained, lost or retyped")
@needs(Scope.READ)
async def list_schema_drift(
    clients: OurClients,
    masked: Masked,
    page: Page = 1,
    limit: Limit = 50,
    source: OptionalText = None,
    dataset: OptionalText = None,
    what: Literal["gained", "lost", "retyped"] | None = None,
    breaking: bool | None = None,
    ended: bool | None = None,
) -> Response:
    """The latest first. `since` when, in how many `records` so far, with an example.

    `breaking` drifts make records fail, with the code in `reason`; the others go through. A lost field that comes back
    ends its drift, as does a type that is not seen any more.
    """
    columns = schema_drift.c
    wanted: list[ColumnElement[bool]] = [
        column == value
        for column, value in ((columns.source_name, source), (columns.dataset, dataset), (columns.what, what))
        if value is not None
    ]
    for column, is_set in ((columns.reason, breaking), (columns.ended_at, ended)):
        if is_set is not None:
            wanted.append(column.is_not(None) if is_set else column.is_(None))
    count = select(func.count()).select_from(schema_drift).where(*wanted)
    part = select(schema_drift).where(*wanted).order_by(columns.id.desc()).offset((page - 1) * limit).limit(limit)
    async with reading(clients.engine) as connection:
        total = (await connection.execute(count)).scalar_one()
        data = [_shown(row, masked=masked) for row in (await connection.execute(part)).mappings()]
    return json_answer({"data": data, "total": total, "page": page, "limit": limit})


def _shown(row: RowMapping, *, masked: bool) -> dict[str, Any]:
    drift = dict(row)
    if masked and drift["example"] is not None and masks(dataset_of(drift["dataset"])):
        drift["example"] = MASK
    drift["source"] = drift.pop("source_name")
    drift["breaking"] = drift["reason"] is not None
    place = {name: drift.pop(name) for name in ("topic", "partition", "offset")}
    drift["example"] = {"text": drift["example"], **place} if place["topic"] is not None else None
    return drift
