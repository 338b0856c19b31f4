"""Is it alive (`/livez`), can it serve (`/readyz`), and how are the stores (`/api/health`)."""

from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter, Response

from api.endpoints.services import OurClients
from api.probes import Finding, Store, probe_all, require
from api.served_json import encode

router = APIRouter(tags=["health"])


@router.get("/livez")
async def live() -> dict[str, str]:
    """Whether the process answers; asks nobody else."""
    return {"status": "alive"}


@router.get("/status", summary="Whether it runs, and its clock")
async def running() -> dict[str, str]:
    """Asks nobody else. The time is UTC, to the second."""
    return {"status": "running", "timestamp": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}


@router.get("/readyz")
async def ready(clients: OurClients) -> dict[str, str]:
    """Whether reads can be served: Postgres answers."""
    await require(clients, "postgres")
    return {"status": "ready"}


@router.get("/api/health", summary="How each store is, asked now")
async def health(clients: OurClients) -> Response:
    """200 `healthy`, or `degraded` without Redis, Elasticsearch or Kafka; 503 `unhealthy` without Postgres."""
    findings = await probe_all(clients)
    status = overall(findings)
    components = {
        store: {name: value for name, value in asdict(finding).items() if value is not None}
        for store, finding in findings.items()
    }
    code = HTTPStatus.SERVICE_UNAVAILABLE if status == "unhealthy" else HTTPStatus.OK
    return Response(encode({"status": status, "components": components}), code, media_type="application/json")


def overall(findings: dict[Store, Finding]) -> str:
    """healthy, degraded or unhealthy: what the API as a whole can do with stores in this state."""
    if findings["postgres"].status == "down":
        return "unhealthy"
    return "degraded" if any(finding.status == "down" for finding in findings.values()) else "healthy"
