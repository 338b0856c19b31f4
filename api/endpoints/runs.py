"""ETL runs: what they did (`/stats`, `/runs`), and `POST /api/ingest`, which takes all customers from their source."""

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.access import Scope, needs
from api.answers import json_answer
from api.clients import Clients, OurClients, from_state
from api.database import reading
from api.health import require
from api.parameters import Limit, OptionalText, Page, StrictRoute
from api.problems import ProblemAnswer
from producers.source import SourceFailed
from services.runs.history import RunRow, Stats, list_runs, read_run, read_stats
from services.runs.ingest import IngestRuns, address_of
from services.runs.run import RunUnderWay

router = APIRouter(route_class=StrictRoute)

OurRuns = Annotated[IngestRuns, from_state("runs")]


class RunsPage(BaseModel):
    """Runs, newest first."""

    data: list[RunRow]
    total: int
    page: int
    page_size: int
    has_more: bool


class IngestAnswer(BaseModel):
    """A run as it stands. `records_processed` counts the records that were published; null while that goes on."""

    status: str
    run_id: str
    records_processed: int | None
    stored: int | None
    failed: int | None
    reason: str | None = None
    """Why it failed; absent otherwise."""


@router.get(
    "/stats", response_model=Stats, summary="What the ETL runs come to, in all and per source", tags=["etl runs"]
)
@needs(Scope.READ)
async def stats(clients: OurClients) -> Response:
    """Times are UTC; null where there was no such run."""
    async with reading(clients.engine) as connection:
        return json_answer(await read_stats(connection))


@router.get("/runs", response_model=RunsPage, summary="ETL runs, newest first", tags=["etl runs"])
@needs(Scope.READ)
async def runs(
    clients: OurClients,
    page: Page = 1,
    page_size: Limit = 10,
    source: OptionalText = None,
    status: Annotated[Literal["running", "success", "failed"] | None, Query(description="Only such runs.")] = None,
) -> Response:
    """A run is a success once Postgres has stored or refused each of its records."""
    offset = (page - 1) * page_size
    async with reading(clients.engine) as connection:
        rows, total = await list_runs(connection, source=source, status=status, offset=offset, limit=page_size)
    more = offset + len(rows) < total and bool(rows)
    return json_answer({"data": rows, "total": total, "page": page, "page_size": page_size, "has_more": more})


@router.get("/runs/{run_id}", response_model=RunRow, summary="One ETL run", tags=["etl runs"])
@needs(Scope.READ)
async def run(clients: OurClients, run_id: str) -> Response:
    """As it stands now, or as it ended."""
    return json_answer(await _recorded(clients, run_id))


@router.post(
    "/api/ingest",
    response_model=IngestAnswer,
    summary="Ingest all customers from their source",
    tags=["ingest"],
    responses={
        202: {"model": IngestAnswer, "description": "It goes on; ask at the Location"},
        409: {"description": "A run of this source is under way, here or elsewhere; `run_id` names it"},
        502: {"description": "The source cannot be read; the run is recorded as failed"},
    },
)
@needs(Scope.OPERATE)
async def ingest(clients: OurClients, runs: OurRuns) -> Response:
    """Publishes every customer and waits until Postgres has stored or refused each. Repeating it is harmless.

    One run at a time: of two requests at once, to one process or to two, one runs and the other is a 409 that names
    the run.
    """
    # Asked first: without them a run would hang on its clients' long timeouts.
    await require(clients, "postgres", "kafka")
    try:
        run, ending = await runs.start()
    except RunUnderWay as error:
        where = f"; see {_location(error.run_id)}" if error.run_id else ""
        raise ProblemAnswer(HTTPStatus.CONFLICT, "ingest-under-way", f"{error}{where}", run_id=error.run_id) from None
    # Not wait_for, which would cancel the run: it goes on, whoever listens.
    await asyncio.wait({ending}, timeout=clients.settings.ingest_timeout_seconds)
    if not ending.done() or ending.cancelled():
        headers = {"Location": _location(run.run_id)}
        return json_answer(_ingested("running", run.run_id, None, None, None), HTTPStatus.ACCEPTED, headers)
    try:
        outcome = ending.result()
    except SourceFailed as error:
        url = address_of(run.source, clients.settings)
        detail = f"The source {url} cannot be read: {error.reason}"
        raise ProblemAnswer(
            HTTPStatus.BAD_GATEWAY, "source-unavailable", detail, source_url=url, run_id=run.run_id
        ) from None
    return json_answer(_ingested("success", run.run_id, run.published, outcome.stored, outcome.failed))


@router.get("/api/ingest/{run_id}", response_model=IngestAnswer, summary="How an ingestion run stands", tags=["ingest"])
@needs(Scope.READ)
async def ingest_status(clients: OurClients, run_id: str) -> Response:
    """Of any run that is recorded, whichever process runs it. `GET /runs/{run_id}` tells more."""
    row = await _recorded(clients, run_id)
    why = {} if row.failure_reason is None else {"reason": row.failure_reason}
    return json_answer(_ingested(row.status, row.run_id, row.published, row.stored, row.failed) | why)


async def _recorded(clients: Clients, run_id: str) -> RunRow:
    """The run of that id. Raises ProblemAnswer (404) if none is recorded, Unavailable without Postgres."""
    async with reading(clients.engine) as connection:
        row = await read_run(connection, run_id)
    if row is None:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", f"No run {run_id[:80]!r} is recorded")
    return row


def _ingested(
    status: str, run_id: str, published: int | None, stored: int | None, failed: int | None
) -> dict[str, Any]:
    counts = {"records_processed": published, "stored": stored, "failed": failed}
    return {"status": status, "run_id": run_id, **counts}


def _location(run_id: str) -> str:
    return f"/api/ingest/{run_id}"
