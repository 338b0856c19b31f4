"""`GET /schema-drift`: fields that sources have gained, lost or retyped."""

import datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.database import reading
from api.endpoints.services import OurClients
from api.parameters import Limit, OptionalText, Page
from api.queries import schema_drift as queries
from api.served_json import json_answer

router = APIRouter(tags=["sources"])


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
async def list_schema_drift(
    clients: OurClients,
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
    conditions = queries.wanted(source, dataset, what, breaking=breaking, ended=ended)
    async with reading(clients.engine) as connection:
        total = await queries.count(connection, conditions)
        data = await queries.page(connection, conditions, (page - 1) * limit, limit)
    return json_answer({"data": data, "total": total, "page": page, "limit": limit})
