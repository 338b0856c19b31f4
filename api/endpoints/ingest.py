"""`POST /api/ingest`: take all customers from their source, and answer when Postgres has them."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.endpoints.etl import recorded_run
from api.endpoints.services import OurClients, OurRuns
from api.probes import require
from api.problems import ProblemAnswer
from api.served_json import encode
from producers.source import SourceFailed
from runtime.errors import DeliveryFailed
from services.runs.ingest import address_of
from services.runs.run import RunUnderWay
from stores.outages import Unavailable

router = APIRouter(tags=["ingest"])


class IngestAnswer(BaseModel):
    """A run as it stands. `records_processed` counts the records that were published; null while that goes on."""

    status: str
    run_id: str
    records_processed: int | None
    stored: int | None
    failed: int | None
    reason: str | None = None
    """Why it failed; absent otherwise."""


@router.post(
    "/api/ingest",
    response_model=IngestAnswer,
    summary="Ingest all customers from their source",
    responses={
        202: {"model": IngestAnswer, "description": "It goes on; ask at the Location"},
        409: {"description": "A run of this source is under way, here or elsewhere; `run_id` names it"},
        502: {"description": "The source cannot be read; the run is recorded as failed"},
    },
)
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
        answer = IngestAnswer(status="running", run_id=run.run_id, records_processed=None, stored=None, failed=None)
        headers = {"Location": _location(run.run_id)}
        return Response(_body(answer), HTTPStatus.ACCEPTED, headers, "application/json")
    try:
        outcome = ending.result()
    except SourceFailed as error:
        url = address_of(run.source, clients.settings)
        detail = f"The source {url} cannot be read: {error.reason}"
        raise ProblemAnswer(
            HTTPStatus.BAD_GATEWAY, "source-unavailable", detail, source_url=url, run_id=run.run_id
        ) from None
    except DeliveryFailed as error:
        raise Unavailable("kafka", str(error)) from error
    answer = IngestAnswer(
        status="success",
        run_id=run.run_id,
        records_processed=run.published,
        stored=outcome.stored,
        failed=outcome.failed,
    )
    return Response(_body(answer), media_type="application/json")


@router.get("/api/ingest/{run_id}", response_model=IngestAnswer, summary="How an ingestion run stands")
async def ingest_status(clients: OurClients, run_id: str) -> Response:
    """Of any run that is recorded, whichever process runs it. `GET /runs/{run_id}` tells more."""
    row = await recorded_run(clients, run_id)
    answer = IngestAnswer(
        status=row.status,
        run_id=row.run_id,
        records_processed=row.published,
        stored=row.stored,
        failed=row.failed,
        reason=row.failure_reason,
    )
    return Response(_body(answer), media_type="application/json")


def _body(answer: IngestAnswer) -> bytes:
    body = answer.model_dump()
    return encode({name: value for name, value in body.items() if name != "reason" or value is not None})


def _location(run_id: str) -> str:
    return f"/api/ingest/{run_id}"
