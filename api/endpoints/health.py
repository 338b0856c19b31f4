"""Is it alive (`/livez`), can it serve (`/readyz`), how are the stores (`/api/health`) and ETL runs (`/health`)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from api.access import GuardedRoute, Scope, caller_of, for_everybody, more_for_callers, needs
from api.answers import JSON, encode, json_answer
from api.clients import OurClients, from_state
from api.database import reading
from api.health import Finding, HealthReports, Store, probe_all, status_of
from runtime.instruments import exposition
from services.runs.history import list_runs
from stores.outages import Unavailable

router = APIRouter(tags=["health"], route_class=GuardedRoute)

OurReports = Annotated[HealthReports, from_state("health")]


class Health(BaseModel):
    """`rehearsals` is there while any run, `misfits` while datasets can't be read: by name, with the reason.

    Who may not read, such as a load balancer without a key, is told the status alone.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[Store, Finding] = {}
    rehearsals: list[str] = []
    misfits: dict[str, str] = {}
    held: int = 0
    """Records that wait until somebody releases or discards them; `reason` says more."""
    reason: str = ""


class EtlHealth(Health):
    """The same with the latest ETL run."""

    db_connected: bool
    last_etl_run: datetime | None
    etl_status: Literal["running", "success", "failed", "never_run", "unknown"]
    last_run_id: str | None


UNHEALTHY: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "Postgres does not answer"}}


def _may_read(request: Request) -> bool:
    return Scope.READ in caller_of(request).scopes


@router.get("/livez")
@for_everybody
async def live() -> dict[str, str]:
    """The process answers; asks nobody else."""
    return {"status": "alive"}


@router.get("/status", summary="Whether it runs, and its clock")
@for_everybody
async def runs() -> dict[str, str]:
    """Asks nobody else. The time is UTC, to the second."""
    return {"status": "running", "timestamp": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}


@router.get("/readyz")
@more_for_callers
async def ready(request: Request, reports: OurReports) -> dict[str, str]:
    """Reads can be served: Postgres answers, asked within the last second."""
    try:
        await reports.require_postgres()
    except Unavailable as error:
        if _may_read(request):
            raise
        raise Unavailable(error.store, "the log of this server, or a key with the scope read, says more") from error
    return {"status": "ready"}


@router.get("/metrics", summary="What this process counts, for Prometheus", response_class=PlainTextResponse)
@needs(Scope.READ)
def metrics(request: Request) -> Response:
    """In Prometheus' text format, or in OpenMetrics for who accepts it. docs/metrics.md says what each means."""
    content_type, body = exposition(request.headers.get("Accept"))
    return Response(body, media_type=content_type)


@router.get(
    "/api/health", response_model=Health, responses=UNHEALTHY, summary="How each store is, asked within the last second"
)
@more_for_callers
async def health(request: Request, reports: OurReports) -> Response:
    """200 `healthy`, or `degraded` without Redis, Elasticsearch or Kafka, or where Postgres has no connection left; 503
    `unhealthy` without Postgres.

    Also degraded with a dataset that cannot be read as it is declared; `misfits` says which, and what to do. And while
    records are `held`: their sources are over the failure limit.
    """
    status, body = await reports.shared.get()
    if not _may_read(request):
        body = encode({"status": msgspec.json.decode(body)["status"]})
    return Response(body, status, media_type=JSON)


@router.get(
    "/health",
    response_model=EtlHealth,
    responses=UNHEALTHY,
    summary="How the database, the latest ETL run and the stores are",
)
@needs(Scope.READ)
async def etl_health(clients: OurClients, reports: OurReports) -> Response:
    """Status codes as of `/api/health`.

    `last_etl_run` is when the latest run of any source ended, or began if it goes on; `etl_status` is running, success
    or failed; `never_run` when there was none, `unknown` without Postgres.
    """
    findings = await probe_all(clients)
    last, etl_status, run_id = None, "unknown", None
    if findings["postgres"].status == "up":
        try:
            async with reading(clients.engine) as connection:
                latest, _ = await list_runs(connection, limit=1)
        except Unavailable as error:
            findings["postgres"] = Finding("down", reason=error.reason)
        else:
            run = latest[0] if latest else None
            last = (run.finished_at or run.started_at) if run else None
            etl_status, run_id = (run.status, run.run_id) if run else ("never_run", None)
    connected = findings["postgres"].status == "up"
    etl = {"db_connected": connected, "last_etl_run": last, "etl_status": etl_status, "last_run_id": run_id}
    report = await reports.report(findings, **etl)
    return json_answer(report, status_of(report))
