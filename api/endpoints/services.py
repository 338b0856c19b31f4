"""Objects that live as long as the application, as typed dependencies of endpoints."""

from typing import Annotated

from fastapi import Depends, Request

from api.clients import Clients
from api.failure_replays import FailureReplays
from producers.webhook.webhooks import Webhooks
from services.runs.ingest import IngestRuns

# `async` although nothing is awaited: FastAPI sends plain functions to a thread, which costs more than most reads.


async def _clients(request: Request) -> Clients:
    clients: Clients = request.app.state.clients
    return clients


async def _runs(request: Request) -> IngestRuns:
    runs: IngestRuns = request.app.state.runs
    return runs


async def _webhooks(request: Request) -> Webhooks:
    webhooks: Webhooks = request.app.state.webhooks
    return webhooks


async def _replays(request: Request) -> FailureReplays:
    replays: FailureReplays = request.app.state.replays
    return replays


OurClients = Annotated[Clients, Depends(_clients)]
OurRuns = Annotated[IngestRuns, Depends(_runs)]
OurWebhooks = Annotated[Webhooks, Depends(_webhooks)]
OurReplays = Annotated[FailureReplays, Depends(_replays)]
