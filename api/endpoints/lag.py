"""`GET /lag`: lag of each consumer group, per topic and partition, from committed offsets."""

from confluent_kafka import KafkaException
from fastapi import APIRouter
from pydantic import BaseModel

from api.endpoints.services import OurClients, OurStages
from api.probes import require
from runtime.kafka.clients import reason
from stores.unavailable import Unavailable

router = APIRouter(tags=["lag"])


class LagRow(BaseModel):
    """One group in one partition. `committed` is null before the group's first commit.

    `end` is the last stable offset. `held` offsets behind it are written and wait for a transaction that has been open
    for `held_seconds`; that is no lag. Markers of transactions have offsets too, so no difference counts records.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    held: int
    held_seconds: float | None


class LagAnswer(BaseModel):
    """Every group, topic and partition; `groups` sums the lag per group, `total` all of it."""

    total: int
    groups: dict[str, int]
    data: list[LagRow]


@router.get("/lag")
async def lag(clients: OurClients, stages: OurStages) -> LagAnswer:
    """Lag of each consumer group, per topic and partition."""
    # The reader waits longer for a broker than a caller of this endpoint should.
    await require(clients, "kafka")
    try:
        rows = await stages.lag()
    except KafkaException as error:
        raise Unavailable("kafka", reason(error)) from error
    groups: dict[str, int] = {}
    for row in rows:
        groups[row.group] = groups.get(row.group, 0) + row.lag
    data = [LagRow.model_validate(row, from_attributes=True) for row in rows]
    return LagAnswer(total=sum(groups.values()), groups=groups, data=data)
