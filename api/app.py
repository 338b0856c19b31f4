"""The application: its middleware, its routes, and the clients that live as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from api.clients import open_clients
from api.endpoints import audit as audit_endpoint
from api.endpoints import (
    data,
    entry_points,
    etl,
    failure_jobs,
    failures,
    health,
    orders,
    schema_drift,
    search,
    webhooks,
)
from api.endpoints import ingest as ingest_endpoints
from api.endpoints import lag as lag_endpoint
from api.endpoints import users as user_endpoints
from api.endpoints.datasets import dataset_routers, reads_of
from api.failure_replays import FailureReplays
from api.known_parameters import refuse_unknown_parameters
from api.problems import MEDIA_TYPE, Problem, install_problem_handlers
from api.request_bounds import RequestBounds
from api.request_context import RequestContext
from producers.webhook.webhooks import Webhooks
from runtime.settings import Settings
from schemas.registry import dataset_named
from services.runs.ingest import IngestRuns

COMPRESS_FROM_BYTES = 1024

GZIP_LEVEL = 5
"""Most of level 9's gain at a fraction of its time."""

_PROBLEM = Problem.model_json_schema()

LENIENT = (entry_points.router, health.router, webhooks.router)
"""Take parameters that they don't know: probes and senders of webhooks add some of their own."""

EXPOSED_HEADERS = ["X-Request-ID", "X-Cache", "ETag", "Server-Timing", "Retry-After", "Location"]


def create_app(settings: Settings) -> FastAPI:
    """The application over these settings' stores; it connects when it starts, and starts without them too."""
    app = FastAPIOffline(
        title="Headrace",
        description="What the pipeline has stored, and a way to ingest. Errors are problem documents (RFC 9457).",
        version="0.1.0",
        lifespan=lambda app: _lifespan(app, settings),
        middleware=_middleware(settings),
        responses={"default": {"description": "A problem document", "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}},
    )
    install_problem_handlers(app)
    for router in _routers():
        strict = [] if router in LENIENT else [Depends(refuse_unknown_parameters)]
        app.include_router(router, dependencies=strict)
    return app


def _routers() -> list[APIRouter]:
    customers = reads_of(dataset_named("customers"), "/api/customers")
    modules = (
        entry_points,
        health,
        ingest_endpoints,
        etl,
        data,
        orders,
        search,
        user_endpoints,
        lag_endpoint,
        audit_endpoint,
        schema_drift,
        webhooks,
    )
    # The jobs of failures come first: what follows takes the rest of `/failures/` for an id.
    plain = [module.router for module in (*modules, failure_jobs, failures)]
    return [*plain, customers, *dataset_routers()]


def _middleware(settings: Settings) -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(RequestContext)]
    if origins := [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID"],
                expose_headers=EXPOSED_HEADERS,
            )
        )
    layers.append(Middleware(RequestBounds))
    layers.append(Middleware(GZipMiddleware, minimum_size=COMPRESS_FROM_BYTES, compresslevel=GZIP_LEVEL))
    return layers


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    async with open_clients(settings) as clients:
        app.state.clients = clients
        app.state.webhooks = Webhooks(settings)
        app.state.runs = IngestRuns(settings)
        app.state.replays = FailureReplays(settings)
        try:
            yield
        finally:
            await app.state.webhooks.close()
            await app.state.replays.close()
            await app.state.runs.close()
