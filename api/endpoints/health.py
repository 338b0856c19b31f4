"""Is it alive (`/livez`), can it serve (`/readyz`), how are the stores (`/api/health`) and ETL runs (`/health`)."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from api.clients import Clients
from api.database import reading
from api.endpoints.services import OurClients
from api.probes import Finding, Store, probe_all, require
from api.served_json import json_answer
from rehearsals.file import running
from runtime.settings import Settings
from services.failures.listing import count_held
from services.runs.history import list_runs
from stores.outages import Unavailable

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """`rehearsals` is there while any run, `misfits` while datasets can't be read: by name, with the reason."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[Store, Finding]
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


@router.get("/livez")
async def live() -> dict[str, str]:
    """The process answers; asks nobody else."""
    return {"status": "alive"}


@router.get("/status", summary="Whether it runs, and its clock")
async def runs() -> dict[str, str]:
    """Asks nobody else. The time is UTC, to the second."""
    return {"status": "running", "timestamp": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}


@router.get("/readyz")
async def ready(clients: OurClients) -> dict[str, str]:
    """Reads can be served: Postgres answers."""
    await require(clients, "postgres")
    return {"status": "ready"}


@router.get("/api/health", response_model=Health, responses=UNHEALTHY, summary="How each store is, asked now")
async def health(clients: OurClients) -> Response:
    """200 `healthy`, or `degraded` without Redis, Elasticsearch or Kafka, or where Postgres has no connection left; 503
    `unhealthy` without Postgres.

    Also degraded with a dataset that cannot be read as it is declared; `misfits` says which, and what to do. And while
    records are `held`: their sources are over the failure limit.
    """
    return _answer(await _health(clients, await probe_all(clients)))


@router.get(
    "/health",
    response_model=EtlHealth,
    responses=UNHEALTHY,
    summary="How the database, the latest ETL run and the stores are",
)
async def etl_health(clients: OurClients) -> Response:
    """Status codes as of `/api/health`.

    `last_etl_run` is when the latest run of any source ended, or began if it goes on; `etl_status` is running, success
    or failed; `never_run` when there was none, `unknown` without Postgres.
    """
    findings = await probe_all(clients)
    last, etl_status, run_id = None, "unknown", None
    if findings["postgres"].status == "up":
        try:
            async with reading(clients.engine) as connection:
                runs, _ = await list_runs(connection, limit=1)
        except Unavailable as error:
            findings["postgres"] = Finding("down", reason=error.reason)
        else:
            run = runs[0] if runs else None
            last = (run.finished_at or run.started_at) if run else None
            etl_status, run_id = (run.status, run.run_id) if run else ("never_run", None)
    connected = findings["postgres"].status == "up"
    etl = {"db_connected": connected, "last_etl_run": last, "etl_status": etl_status, "last_run_id": run_id}
    return _answer(await _health(clients, findings, **etl))


async def _health(clients: Clients, findings: dict[Store, Finding], **etl: object) -> dict[str, Any]:
    misfits, held = await _misfits(clients, findings), await _held(clients, findings)
    components = {
        store: {name: value for name, value in asdict(finding).items() if value is not None}
        for store, finding in findings.items()
    }
    health = {"status": overall(findings, misfits | held), **etl, "components": components}
    return health | misfits | held | _rehearsals(clients.settings)


async def _misfits(clients: Clients, findings: dict[Store, Finding]) -> dict[str, dict[str, str]]:
    """Nothing where all is well, or where Postgres does not say."""
    if findings["postgres"].status != "up":
        return {}
    try:
        found = await clients.tables.misfits()
    except Unavailable:
        return {}  # it answered a moment ago; its own finding will say so if it does not
    return {"misfits": found} if found else {}


async def _held(clients: Clients, findings: dict[Store, Finding]) -> dict[str, Any]:
    """Nothing where no record is held, or where Postgres does not say."""
    if findings["postgres"].status != "up":
        return {}
    try:
        async with reading(clients.engine) as connection:
            held = await count_held(connection)
    except (Unavailable, SQLAlchemyError):
        return {}  # How Postgres is, its probe has found out; without the table nothing is held.
    reason = (
        f"{held:,} records are held: nearly all of their sources' records failed; "
        "`headrace failures list`, then `release` or `discard`"
    )
    return {"held": held, "reason": reason} if held else {}


def _rehearsals(settings: Settings) -> dict[str, list[str]]:
    """Rehearsals under way, where they are allowed: whoever is alarmed should know."""
    found = running(settings.home) if settings.rehearsals else []
    return {"rehearsals": [str(one) for one in found]} if found else {}


def _answer(body: dict[str, Any]) -> Response:
    code = HTTPStatus.SERVICE_UNAVAILABLE if body["status"] == "unhealthy" else HTTPStatus.OK
    return json_answer(body, code)


def overall(findings: dict[Store, Finding], misfits: Mapping[str, object] = MappingProxyType({})) -> str:
    """Health of the API as a whole, with stores and tables in this state: healthy, degraded or unhealthy."""
    if findings["postgres"].status == "down":
        return "unhealthy"
    return "degraded" if misfits or any(finding.reason for finding in findings.values()) else "healthy"
