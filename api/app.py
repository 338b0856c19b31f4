"""The application: its middleware, its routes, and the clients that live as long as it does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from api import cached_records
from api.access import SECURITY_SCHEMES, GuardedRoute, for_everybody
from api.cached_records import CachedReads
from api.callers import Callers, IdentifiedCallers
from api.clients import open_clients
from api.endpoints import (
    alarms,
    datasets,
    failure_jobs,
    failures,
    health,
    lag,
    orders,
    overview,
    pipeline,
    runs,
    schema_drift,
    search,
    topics,
    trace,
    users,
    webhooks,
)
from api.endpoints.datasets import reads_of
from api.endpoints.failure_jobs import FailureReplays
from api.endpoints.overview import overviews
from api.endpoints.topics import TopicReads
from api.foreign_pages import ForeignPages
from api.health import HealthReports
from api.middleware import RequestBounds, RequestContext
from api.page_policies import PagePolicies
from api.problems import MEDIA_TYPE, Problem, install_problem_handlers
from api.request_counts import RequestCounts, limits_of, shared_counts
from api.request_limits import RequestLimits
from api.search import service as searches
from api.traced_requests import TracedRequests
from monitoring.watching import LagWatch
from producers.webhook.webhooks import Webhooks
from runtime.metrics import METRICS
from runtime.settings import Settings, listed
from runtime.tracing import is_tracing
from schemas.dataset import Dataset
from schemas.registry import all_datasets, dataset_named
from services.runs.ingest import IngestRuns
from stores.lag_samples import LagSamples

COMPRESS_FROM_BYTES = 1024

GZIP_LEVEL = 5
"""Most of level 9's gain at a fraction of its time."""

ENTRY_POINTS = {
    "/overview": "one sentence on how the pipeline is, and its flow with rate, lag and state",
    "/docs": "this API, to read and to try",
    "/openapi.json": "this API, for machines",
    "/health": "the database, the latest ETL run, and every component",
    "/stats": "what the ETL runs come to, in all and per source",
    "/runs?page=1&page_size=10": "ETL runs, newest first; also source=titanic, status=failed",
    "/metrics": "what this process counts, for Prometheus",
    "/api/health": "how Postgres, Redis, Elasticsearch and Kafka are",
    "/api/ingest": "POST: take all customers from their source",
    "/api/customers?page=1&limit=10": "customers, page by page; also limit=100&cursor=",
    "/api/customers/CUST001": "one customer",
    "/data?page=1&page_size=10": "records; also source=titanic, search=text",
    "/orders?page=1&limit=10": "orders; also product=, customer_id=, from=, to=, min_price=, max_price=",
    "/orders/totals?by=month": "what was sold, by month or by=product, with the same filters",
    "/webhooks/{source}": "POST: push signed records to a webhook source",
    "/search?q=text": "full-text search; also dataset=customers",
    "/users/": "POST: create a user",
    "/users?q=text": "users, page by page or by a search",
    "/status": "whether the API runs",
    "/datasets": "every dataset and where to read it",
    "/alarms": "what is wrong by the rules of alarms.toml, and what was",
    "/audit": "is every record accounted for",
    "/topics": "every topic; its messages at /topics/customers.raw/messages",
    "/trace/customers/CUST001": "one record followed through topics and stores",
    "/schema-drift": "fields that sources have gained, lost or retyped",
    "/lag": "how far each consumer group is behind, and its verdict; also /lag/{group}, its /history, /lag/stream",
}

_PROBLEM = Problem.model_json_schema()

EXPOSED_HEADERS = [
    "X-Request-ID",
    "X-Cache",
    "ETag",
    "Server-Timing",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "Location",
    "WWW-Authenticate",
]


def create_app(settings: Settings) -> FastAPI:
    """The application over these settings' stores; it connects when it starts, and starts without them too."""
    app = FastAPIOffline(
        title="Headrace",
        description="What the pipeline has stored, and a way to ingest. Errors are problem documents (RFC 9457).",
        version="0.1.0",
        lifespan=lambda app: _lifespan(app, settings),
        middleware=_middleware(settings),
        # Traces and metrics are ours (runtime/tracing.py); looking for other ones takes 10 µs of each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses={"default": {"description": "A problem document", "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}},
    )
    app.state.request_counts = RequestCounts(limits_of(settings))
    install_problem_handlers(app)
    app.router.route_class = GuardedRoute
    app.openapi = partial(_with_security, app.openapi, optional=settings.api_access == "open")  # type: ignore[method-assign]

    @app.get("/", tags=["entry points"], response_model=dict[str, str | dict[str, str]])
    @for_everybody
    async def entry_points(request: Request) -> Any:
        """Where to begin. Browsers, which ask for text/html by name, are sent to the dashboard if there is one."""
        if settings.dashboard_url and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(settings.dashboard_url, HTTPStatus.TEMPORARY_REDIRECT, {"Vary": "Accept"})
        return {"name": "headrace", "entry_points": ENTRY_POINTS}

    # First come the reads that are asked for most, since routes are tried one after the other; and the jobs of failures
    # before the rest of `/failures/`, which is taken for an id.
    customers = reads_of(dataset_named("customers"), "/api/customers")
    every = (reads_of(dataset, f"/datasets/{dataset.name}") for dataset in all_datasets())
    modules = (
        webhooks,
        search,
        users,
        datasets,
        orders,
        runs,
        pipeline,
        lag,
        alarms,
        overview,
        topics,
        trace,
        schema_drift,
        failure_jobs,
        failures,
    )
    for router in (customers, health.router, *every, *(module.router for module in modules)):
        app.include_router(router)
    return app


def _with_security(document: Callable[[], dict[str, Any]], *, optional: bool) -> dict[str, Any]:
    """The OpenAPI document with the ways to say who asks; FastAPI itself knows of dependencies only."""
    made = document()
    if "securitySchemes" not in made["components"]:  # it makes the document once
        made["components"]["securitySchemes"] = SECURITY_SCHEMES
        for operation in (one for path in made["paths"].values() for one in path.values()):
            if optional and "security" in operation:
                operation["security"] = [{}, *operation["security"]]
    return made


def _record_paths() -> dict[str, Dataset]:
    """The datasets of which single records are read, by the templates of their routes; most asked for first."""
    own = {"/api/customers/{key}": dataset_named("customers"), "/users/{email}": dataset_named("users")}
    return own | {f"/datasets/{dataset.name}/{{key}}": dataset for dataset in all_datasets()}


def _middleware(settings: Settings) -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(TracedRequests), Middleware(RequestContext)] if is_tracing() else [Middleware(RequestContext)]
    origins = listed(settings.cors_origins)
    layers.append(Middleware(ForeignPages, listed(settings.allowed_hosts), origins))
    if origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Content-Type", "If-None-Match", "Authorization", "X-API-Key", "X-Request-ID"],
                expose_headers=EXPOSED_HEADERS,
            )
        )
    layers.append(Middleware(RequestBounds))
    layers.append(Middleware(IdentifiedCallers, settings))
    layers.append(
        Middleware(RequestLimits, min(settings.api_expensive_at_once, max(1, settings.database_pool_max // 2)))
    )
    layers.append(Middleware(CachedReads, _record_paths(), COMPRESS_FROM_BYTES))
    layers.append(
        Middleware(
            GZipMiddleware,
            minimum_size=COMPRESS_FROM_BYTES,
            compresslevel=GZIP_LEVEL,
            exclude_content_types=("text/event-stream", "image/png"),  # Starlette's fourteen take 10 µs of each answer
        )
    )
    layers.append(Middleware(PagePolicies))
    return layers


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    METRICS.expose("api")
    cached_records.count_from_zero(all_datasets())
    searches.count_from_zero()
    async with open_clients(settings) as clients:
        app.state.clients = clients
        app.state.callers = Callers(settings, clients.engine)
        if settings.api_access == "keys":
            app.state.callers.start()
        app.state.health = HealthReports(clients)
        app.state.webhooks = Webhooks(settings)
        app.state.runs = IngestRuns(settings)
        app.state.replays = FailureReplays()
        app.state.lag = LagWatch(settings)
        app.state.lag_history = LagSamples(settings)
        app.state.overview = overviews(clients, app.state.lag)
        app.state.topic_reads = TopicReads()
        if clients.redis:
            app.state.request_counts.share(shared_counts(clients.redis, settings), clients.redis_breaker)
        try:
            yield
        finally:
            # At once: supervisors give all of it 10 s, and each of these may wait for a store.
            names = ("callers", "request_counts", "webhooks", "replays", "runs", "lag", "lag_history")
            await asyncio.gather(*(getattr(app.state, name).close() for name in names))
