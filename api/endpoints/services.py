"""What endpoints get from the application, typed."""

from typing import Annotated

from fastapi import Depends, Request

from api.clients import Clients
from api.ingest import LagReader, RecordDeleter
from api.ingest_runs import IngestRuns

# `async` although nothing is awaited: FastAPI sends plain functions to a thread, which costs more than most reads.


async def _clients(request: Request) -> Clients:
    clients: Clients = request.app.state.clients
    return clients


async def _runs(request: Request) -> IngestRuns:
    runs: IngestRuns = request.app.state.runs
    return runs


async def _lag_reader(request: Request) -> LagReader:
    reader: LagReader = request.app.state.lag
    return reader


async def _deleter(request: Request) -> RecordDeleter:
    deleter: RecordDeleter = request.app.state.delete
    return deleter


OurClients = Annotated[Clients, Depends(_clients)]
OurRuns = Annotated[IngestRuns, Depends(_runs)]
OurDeleter = Annotated[RecordDeleter, Depends(_deleter)]
OurLagReader = Annotated[LagReader, Depends(_lag_reader)]
