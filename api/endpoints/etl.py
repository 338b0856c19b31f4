"""`GET /stats`, `GET /runs` and `GET /runs/{run_id}`: what the ETL runs did."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.clients import Clients
from api.database import reading
from api.endpoints.services import OurClients
from api.parameters import Limit, OptionalText, Page
from api.problems import ProblemAnswer
from api.served_json import encode
from services.runs.history import RunRow, Stats, list_runs, read_run, read_stats

router = APIRouter(tags=["etl runs"])

JSON = "application/json"


class RunsPage(BaseModel):
    """Runs, newest first."""

    data: list[RunRow]
    total: int
    page: int
    page_size: int
    has_more: bool


@router.get("/stats", response_model=Stats, summary="What the ETL runs come to, in all and per source")
async def stats(clients: OurClients) -> Response:
    """Times are UTC; null where there was no such run."""
    async with reading(clients.engine) as connection:
        found = await read_stats(connection)
    return Response(encode(asdict(found)), media_type=JSON)


@router.get("/runs", response_model=RunsPage, summary="ETL runs, newest first")
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
    answer = {
        "data": [asdict(row) for row in rows],
        "total": total,
        "page": page,
        "page_size": page_size,
        "has_more": offset + len(rows) < total and bool(rows),
    }
    return Response(encode(answer), media_type=JSON)


@router.get("/runs/{run_id}", response_model=RunRow, summary="One ETL run")
async def run(clients: OurClients, run_id: str) -> Response:
    """As it stands now, or as it ended."""
    return Response(encode(asdict(await recorded_run(clients, run_id))), media_type=JSON)


async def recorded_run(clients: Clients, run_id: str) -> RunRow:
    """The run of that id. Raises ProblemAnswer (404) if none is recorded, Unavailable without Postgres."""
    async with reading(clients.engine) as connection:
        row = await read_run(connection, run_id)
    if row is None:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", f"No run {run_id[:80]!r} is recorded")
    return row
