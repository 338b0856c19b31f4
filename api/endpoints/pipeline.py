"""Is every record accounted for (`GET /audit`), and how far is each consumer group behind (`GET /lag`)."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.answers import json_answer
from api.clients import OurClients
from api.health import require
from api.parameters import StrictRoute
from monitoring.lag import PartitionLag, read_lag
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


class LagAnswer(BaseModel):
    """Every group, topic and partition; `groups` sums the lag per group, `total` all of it."""

    total: int
    groups: dict[str, int]
    data: list[PartitionLag]


@router.get("/audit", response_model=AuditAnswer, summary="Is every record accounted for", tags=["audit"])
async def audit(clients: OurClients) -> Response:
    """Compares, per partition, the offsets that Postgres covers with what the raw topics hold.

    Records are `covered`, `in_flight`, or lost (`holes`); offsets are `void` (they carry no record), `held` by an open
    transaction, `expired` or `unprovable`: gone from Kafka before Postgres had them.
    """
    await require(clients, "postgres", "kafka")
    return json_answer((await whole_audit(clients.settings, clients.engine)).json())


@router.get("/lag", response_model=LagAnswer, tags=["lag"])
async def lag(clients: OurClients) -> Response:
    """Lag of each consumer group, per topic and partition, and the sums per group and over all."""
    # The reader waits longer for a broker than a caller of this endpoint should.
    await require(clients, "kafka")
    rows = await read_lag(clients.settings)
    groups: dict[str, int] = {}
    for row in rows:
        groups[row.group] = groups.get(row.group, 0) + row.lag
    return json_answer({"total": sum(groups.values()), "groups": groups, "data": rows})
