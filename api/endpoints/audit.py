"""`GET /audit`: is every record accounted for."""

from typing import Any

from confluent_kafka import KafkaException
from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.endpoints.services import OurClients
from api.probes import require
from api.served_json import json_answer
from runtime.kafka.clients import reason
from services.audits.audit import whole_audit
from stores.outages import Unavailable

router = APIRouter(tags=["audit"])


class AuditAnswer(BaseModel):
    """Verdicts on each raw partition; `moved`: keys that are in another partition than before;
    `reprocessed`: outcomes of reprocessed records, counted apart.
    """

    clean: bool
    partitions: list[dict[str, Any]]
    moved: dict[str, dict[str, int]]
    reprocessed: dict[str, int]


@router.get("/audit", response_model=AuditAnswer, summary="Is every record accounted for")
async def audit(clients: OurClients) -> Response:
    """Compares, per partition, the offsets that Postgres covers with what the raw topics hold.

    Records are `covered`, `in_flight`, or lost (`holes`); offsets are `void` (they carry no record), `held` by an open
    transaction, `expired` or `unprovable`: gone from Kafka before Postgres had them.
    """
    await require(clients, "postgres", "kafka")
    try:
        found = await whole_audit(clients.settings, clients.engine)
    except KafkaException as error:
        raise Unavailable("kafka", reason(error)) from error
    return json_answer(found.json())
