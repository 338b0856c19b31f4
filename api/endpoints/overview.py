"""`GET /overview`: the pipeline in one look."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Response

from api.access import Scope, needs
from api.answers import JSON, encode
from api.clients import Clients, from_state
from api.health import probe_all
from api.parameters import StrictRoute
from api.single_flight import Shared
from monitoring.watching import LagWatch
from services.overview.model import Overview
from services.overview.service import Overviews

router = APIRouter(route_class=StrictRoute, tags=["overview"])

SHARED_SECONDS = 1.0
"""Callers who ask within so many seconds share an answer."""

OurOverview = Annotated[Shared[bytes], from_state("overview")]


def overviews(clients: Clients, lag: LagWatch) -> Shared[bytes]:
    """Bodies of answers, one a second at most."""

    async def stores() -> Mapping[str, str | None]:
        found = await probe_all(clients)
        return {
            name: (finding.reason or "no answer") if finding.status == "down" else None
            for name, finding in found.items()
        }

    made = Overviews(clients.settings, clients.engine, clients.kafka, lag, stores)

    async def encoded() -> bytes:
        return encode(await made.now())

    return Shared(encoded, SHARED_SECONDS)


@router.get("/overview", response_model=Overview, summary="The pipeline in one look")
@needs(Scope.READ)
async def overview(shared: OurOverview) -> Response:
    """One sentence of diagnosis, the flow with rate, lag and state, dead letters, latency, and a sketch of the audit.

    Always an answer, whatever is away. May be asked every second or two: callers share a reading, and what is dear is
    read every 5 or 10 s. Latency is, of the newest rows stored, the time of storing minus the broker's time of the raw
    record.
    """
    return Response(await shared.get(), media_type=JSON)
