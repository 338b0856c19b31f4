"""`GET /lag`: lag of each consumer group, per topic and partition, from committed offsets."""

from confluent_kafka import KafkaException
from fastapi import APIRouter
from pydantic import BaseModel

from api.endpoints.services import OurClients
from api.probes import require
from monitoring.lag import PartitionLag, read_lag
from runtime.kafka.clients import reason
from stores.outages import Unavailable

router = APIRouter(tags=["lag"])


class LagAnswer(BaseModel):
    """Every group, topic and partition; `groups` sums the lag per group, `total` all of it."""

    total: int
    groups: dict[str, int]
    data: list[PartitionLag]


@router.get("/lag")
async def lag(clients: OurClients) -> LagAnswer:
    """Lag of each consumer group, per topic and partition, and the sums per group and over all."""
    # The reader waits longer for a broker than a caller of this endpoint should.
    await require(clients, "kafka")
    try:
        rows = await read_lag(clients.settings)
    except KafkaException as error:
        raise Unavailable("kafka", reason(error)) from error
    groups: dict[str, int] = {}
    for row in rows:
        groups[row.group] = groups.get(row.group, 0) + row.lag
    return LagAnswer(total=sum(groups.values()), groups=groups, data=rows)
