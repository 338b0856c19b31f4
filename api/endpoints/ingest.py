"""`POST /api/ingest`: take all customers from their source, and answer when Postgres has them."""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.endpoints.services import OurClients, OurRuns
from api.ingest_runs import Run, RunUnderWay
from api.probes import require
from api.problems import ProblemAnswer
from api.served_json import encode
from api.stages import SourceUnavailable
from api.unavailable import Unavailable

router = APIRouter(tags=["ingest"])


class IngestAnswer(BaseModel):
    """How a run stands. `records_processed` counts the records that were published; null while that goes on."""

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
        409: {"description": "A run is under way"},
        502: {"description": "The source cannot be read"},
    },
)
async def ingest(clients: OurClients, runs: OurRuns) -> Response:
    """Publishes every customer and waits until Postgres has stored or refused each. Repeating it is harmless."""
    # Asked first: without them a run would hang on its clients' long timeouts.
    await require(clients, "postgres", "kafka")
    try:
        run = runs.start()
    except RunUnderWay as error:
        raise ProblemAnswer(
            HTTPStatus.CONFLICT,
            "ingest-under-way",
            f"Ingestion run {error.run_id} is under way; see {_location(error.run_id)}, or try again when it has ended",
            run_id=error.run_id,
        ) from None
    assert run.task is not None  # noqa: S101 (start() made it)
    # Not wait_for, which would cancel the run: it goes on, whoever listens.
    await asyncio.wait({run.task}, timeout=clients.settings.ingest_timeout_seconds)
    if run.error is not None:
        raise _as_answer(run.error)
    if run.status == "running":
        headers = {"Location": _location(run.run_id)}
        return Response(encode(_answer(run)), HTTPStatus.ACCEPTED, headers, "application/json")
    return Response(encode(_answer(run)), media_type="application/json")


@router.get("/api/ingest/{run_id}", response_model=IngestAnswer, summary="How an ingestion run stands")
async def ingest_status(runs: OurRuns, run_id: str) -> Response:
    """Of the last runs of this process."""
    run = runs.get(run_id)
    if run is None:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", f"No ingestion run {run_id[:80]!r} is remembered")
    return Response(encode(_answer(run)), media_type="application/json")


def _answer(run: Run) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "status": run.status,
        "run_id": run.run_id,
        "records_processed": run.published,
        "stored": run.outcome.stored if run.outcome else None,
        "failed": run.outcome.failed if run.outcome else None,
    }
    if run.error is None:
        return answer
    # Other errors are ours, and their words are for the log.
    known = isinstance(run.error, SourceUnavailable | Unavailable)
    return answer | {"reason": str(run.error) if known else "an error inside the API; its log has the details"}


def _as_answer(error: Exception) -> Exception:
    if isinstance(error, SourceUnavailable):
        detail = f"The source {error.url} cannot be read: {error.reason}"
        return ProblemAnswer(HTTPStatus.BAD_GATEWAY, "source-unavailable", detail, source_url=error.url)
    return error


def _location(run_id: str) -> str:
    return f"/api/ingest/{run_id}"
