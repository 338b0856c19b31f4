"""Objects that live as long as the application, as typed dependencies of endpoints."""

from typing import Annotated

from fastapi import Depends, Request

from api.clients import Clients
from api.failure_replays import FailureReplays
from api.ingest_runs import IngestRuns
from api.stages import Stages

# `async` although nothing is awaited: FastAPI sends plain functions to a thread, which costs more than most reads.


async def _clients(request: Request) -> Clients:
    clients: Clients = request.app.state.clients
    return clients


async def _runs(request: Request) -> IngestRuns:
    runs: IngestRuns = request.app.state.runs
    return runs


async def _stages(request: Request) -> Stages:
    stages: Stages = request.app.state.stages
    return stages


async def _replays(request: Request) -> FailureReplays:
    replays: FailureReplays = request.app.state.replays
    return replays


OurClients = Annotated[Clients, Depends(_clients)]
OurRuns = Annotated[IngestRuns, Depends(_runs)]
OurStages = Annotated[Stages, Depends(_stages)]
OurReplays = Annotated[FailureReplays, Depends(_replays)]
