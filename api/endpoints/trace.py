"""`GET /trace/{dataset}/{key}`: one record followed from its source to this API."""

from http import HTTPStatus
from typing import Annotated

import httpx
from fastapi import APIRouter, Path, Request, Response

from api.access import CREDENTIALS, Scope, needs
from api.answers import json_answer
from api.clients import OurClients
from api.endpoints.topics import OurTopicReads
from api.parameters import StrictRoute
from api.personal import Masked
from api.problems import ProblemAnswer
from schemas.registry import UnknownDataset, dataset_named
from services.trace.model import Trace
from services.trace.trace import LONGEST_KEY, NoSuchKey, TracedStores, trace

router = APIRouter(route_class=StrictRoute, tags=["trace"])

Key = Annotated[str, Path(max_length=LONGEST_KEY, description="In any form that the dataset normalizes.")]


@router.get(
    "/trace/{dataset}/{key:path}",
    response_model=Trace,
    summary="A key's every event, through topic, agent, Postgres, Elasticsearch, Redis and API",
    responses={
        400: {"description": "No record of the dataset can have this key"},
        404: {"description": "There is no such dataset"},
        429: {"description": "Too many such reads at once"},
    },
)
@needs(Scope.READ)
async def trace_key(
    request: Request, clients: OurClients, reads: OurTopicReads, masked: Masked, dataset: str, key: Key
) -> Response:
    """Always an answer, whatever is away: `stores` and `notes` say so. `known` is false if nobody knows the key.

    The API is asked as any reader is, so its answer may be cached by it.
    """
    try:
        declared = dataset_named(dataset)
    except UnknownDataset as error:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", str(error)) from None
    transport = httpx.ASGITransport(request.app)
    # In the name of who asks here.
    sent = {name: value for name in CREDENTIALS if (value := request.headers.get(name))}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=sent) as itself:
        stores = TracedStores(
            clients.settings, clients.engine, clients.kafka, clients.redis, clients.elasticsearch, itself
        )
        try:
            found = await reads.hold(trace(stores, declared, key, masked=masked))
        except NoSuchKey as error:
            raise ProblemAnswer(HTTPStatus.BAD_REQUEST, "invalid-key", str(error)) from None
    return json_answer(found)
