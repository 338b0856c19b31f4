"""`GET /alarms`: what is wrong by the rules of alarms.toml, and what was."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import OurClients
from api.database import reading
from api.parameters import Limit, StrictRoute
from stores.alarms import closed_alarms, open_alarms

router = APIRouter(tags=["alarms"], route_class=StrictRoute)


class AlarmView(BaseModel):
    """One rule about one subject. Times in seconds since the epoch; `closed_at` null while it is open."""

    id: str
    rule: str
    subject: str
    severity: str
    text: str
    value: Any
    since: float
    opened_at: float
    closed_at: float | None


class AlarmList(BaseModel):
    """Alarms that are open, oldest first, and those that were closed last."""

    open: list[AlarmView]
    closed: list[AlarmView]


@router.get("/alarms", response_model=AlarmList, summary="Alarms that are open, and the latest that were")
@needs(Scope.READ)
async def list_alarms(clients: OurClients, limit: Limit = 50) -> Response:
    """As the role `monitor` last judged by the rules of alarms.toml. Closed ones are kept for 30 days."""
    async with reading(clients.engine) as connection:
        return json_answer({"open": await open_alarms(connection), "closed": await closed_alarms(connection, limit)})
