"""Is every record accounted for (`GET /audit`)."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import OurClients
from api.health import require
from api.parameters import StrictRoute
from services.audits.audit import whole_audit

router = APIRouter(route_class=StrictRoute)


class AuditAnswer(BaseModel):
    """Verdicts on each raw partition; `moved`: keys that are in another partition than before;
    `reprocessed`: outcomes of reprocessed records, counted apart.
    """

    clean: bool
    partitions: list[dict[str, Any]]
    moved: dict[str, dict[str, int]]
    reprocessed: dict[str, int]


@router.get("/audit", response_model=AuditAnswer, summary="Is every record accounted for", tags=["audit"])
@needs(Scope.READ)
async def audit(clients: OurClients) -> Response:
    """Compares, per partition, the offsets that Postgres covers with what the raw topics hold.

    Records are `covered`, `in_flight`, or lost (`holes`); offsets are `void` (they carry no record), `held` by an open
    transaction, `expired` or `unprovable`: gone from Kafka before Postgres had them.
    """
    await require(clients, "postgres", "kafka")
    return json_answer((await whole_audit(clients.settings, clients.engine)).json())
