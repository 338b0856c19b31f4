"""Every endpoint says what it needs, and nobody gets in without it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from api.access import CALLER, NOBODY, Caller, GuardedRoute, Scope, UndeclaredNeed, caller_of, for_everybody, needs
from api.app import create_app
from api.callers import IdentifiedCallers, is_beyond_loopback
from api.problems import install_problem_handlers
from runtime.settings import Settings

OWN_PAGES = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static-offline-docs"}
"""FastAPI's pages about the API: they say what is in the repository, and nothing of any data."""

OPEN = {
    "GET /": "where to begin",
    "GET /livez": "asked by who starts it again",
    "GET /readyz": "asked by load balancers",
    "GET /api/health": "the same, the status alone",
    "GET /status": "a clock",
    "POST /webhooks/{source}": "signed by its sender",
}
"""Endpoints for everybody, and why. Another one is thought about before it stands here."""

APP = create_app(Settings())


def routes(app: Any) -> Iterator[BaseRoute]:
    """Every route that answers requests, however deep it is included."""
    for route in app.routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from routes(inner)
        else:
            yield route


def declared() -> dict[str, Scope | None]:
    return {
        f"{method} {route.path_format}": route.needed
        for route in routes(APP)
        if isinstance(route, GuardedRoute)
        for method in route.methods or ()
    }


def test_every_route_declares_what_it_needs() -> None:
    found = list(routes(APP))
    assert len(found) > 50, "all of them are walked"
    unguarded = {getattr(route, "path", repr(route)) for route in found if not isinstance(route, GuardedRoute)}
    assert unguarded == OWN_PAGES


def test_only_these_endpoints_are_for_everybody() -> None:
    assert {name for name, needed in declared().items() if needed is None} == OPEN.keys()


def test_a_change_never_needs_the_scope_read_alone_and_a_read_no_more() -> None:
    for name, needed in declared().items():
        if name not in OPEN:
            assert (needed is Scope.READ) == name.startswith("GET "), name


@pytest.mark.parametrize(
    ("operation", "needed"),
    [
        ("POST /api/ingest", Scope.OPERATE),
        ("POST /failures/retry", Scope.OPERATE),
        ("POST /failures/{failure_id}/edit", Scope.OPERATE),
        ("POST /failures/jobs/{job_id}/cancel", Scope.OPERATE),
        ("POST /topics/{topic}/messages", Scope.WRITE),
        ("POST /users/", Scope.WRITE),
        ("DELETE /api/customers/{key}", Scope.WRITE),
        ("GET /metrics", Scope.READ),
        ("GET /failures/{failure_id}", Scope.READ),
    ],
)
def test_what_is_done_decides_which_scope_it_needs(operation: str, needed: Scope) -> None:
    assert declared()[operation] is needed


def test_a_route_without_a_declaration_cannot_be_made() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(UndeclaredNeed, match="/forgotten"):

        @router.get("/forgotten")
        async def forgotten() -> None: ...


def test_the_document_says_what_each_operation_needs_and_how_it_refuses() -> None:
    document = APP.openapi()
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["key"]["in"], schemes["key"]["name"]) == ("header", "X-API-Key")
    needs = declared()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = needs[f"{method.upper()} {path}"]
            if needed is None:
                assert "security" not in operation
                continue
            assert operation["security"] == [{"bearer": [needed]}, {"key": [needed]}]
            assert {"401", "403"} <= operation["responses"].keys()


def test_the_document_of_an_open_api_says_that_a_key_is_no_must() -> None:
    app = create_app(Settings(api_access="open"))
    for _ in range(2):
        assert app.openapi()["paths"]["/stats"]["get"]["security"] == [{}, {"bearer": ["read"]}, {"key": ["read"]}]
    assert "security" not in app.openapi()["paths"]["/livez"]["get"]


def guarded_app(caller: Caller | None) -> FastAPI:
    app = FastAPI()
    app.router.route_class = GuardedRoute

    @app.get("/read")
    @needs(Scope.READ)
    async def read() -> str:
        return "read"

    @app.get("/open")
    @for_everybody
    async def for_all() -> str:
        return "open"

    @app.middleware("http")
    async def as_caller(request: Any, call: Any) -> Any:
        if caller:
            request.scope[CALLER] = caller
        return await call(request)

    install_problem_handlers(app)
    return app


async def ask(app: FastAPI, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        return await client.request(method, path)


async def test_nobody_is_told_what_is_missing_by_401() -> None:
    answer = await ask(guarded_app(None), "/read")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="headrace"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["scope"] == "read"
    assert (await ask(guarded_app(None), "/open")).status_code == 200


async def test_another_scope_is_refused_by_403_which_names_the_missing_one() -> None:
    answer = await ask(guarded_app(Caller("shop", frozenset({Scope.WRITE, Scope.OPERATE}))), "/read")
    assert answer.status_code == 403
    assert answer.json()["scope"] == "read"
    assert "needs the scope read" in answer.json()["detail"]
    assert 'error="insufficient_scope", scope="read"' in answer.headers["www-authenticate"]


async def test_the_scope_lets_in() -> None:
    assert (await ask(guarded_app(Caller("shop", frozenset({Scope.READ}))), "/read")).json() == "read"


async def test_a_method_that_a_path_does_not_take_is_still_405() -> None:
    assert (await ask(guarded_app(None), "/read", "DELETE")).status_code == 405


def test_a_request_without_a_known_caller_is_nobodys() -> None:
    assert caller_of({}) is NOBODY
    assert NOBODY.scopes == frozenset()


@pytest.mark.parametrize(
    ("address", "beyond"),
    [
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("/run/headrace.sock", False),
        ("0.0.0.0", True),  # noqa: S104
        ("10.0.0.7", True),
        ("2001:db8::1", True),
    ],
)
def test_an_open_api_knows_which_addresses_others_reach(address: str, *, beyond: bool) -> None:
    assert is_beyond_loopback(address) is beyond


async def test_no_key_is_looked_at_where_everybody_gets_the_same_answer() -> None:
    """It may be one that only Postgres knows, which may be away."""
    asked: list[str] = []

    class Postgres:
        async def of(self, scope: Any) -> tuple[Caller, None]:
            asked.append(scope["path"])
            return NOBODY, None

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    def told() -> None: ...

    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/as-it-says-itself", for_everybody(told))
    routes = [*APP.routes, *router.routes]
    state = SimpleNamespace(state=SimpleNamespace(callers=Postgres()), routes=routes)
    identified = IdentifiedCallers(app, Settings(api_access="keys"))
    for request in (
        *OPEN,
        *(f"GET {page}" for page in OWN_PAGES if page != "/static-offline-docs"),
        "GET /as-it-says-itself",
        "GET /stats",
        "GET /webhooks/shop",
    ):
        method, _, path = request.partition(" ")
        scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-api-key", b"hr_a_b")], "app": state}
        await identified(scope, None, None)  # type: ignore[arg-type]
    assert set(asked) == {"/readyz", "/api/health", "/stats", "/webhooks/shop"}


async def open_answer(settings: Settings, server: str, more: dict[str, Any] | None = None) -> Caller:
    """The caller that an open API takes one for whose request arrived at this address of ours."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    scope = {"type": "http", "server": (server, 8000), "client": ("127.0.0.1", 5), "headers": [], **(more or {})}
    await IdentifiedCallers(app, settings)(scope, None, None)  # type: ignore[arg-type]
    return caller_of(seen)


async def test_an_application_around_may_have_found_out_the_caller() -> None:
    known = Caller("single sign-on", frozenset({Scope.READ}))
    settings = Settings(api_access="open")
    assert await open_answer(settings, "127.0.0.1", {CALLER: known}) is known


async def test_an_open_api_is_open_at_loopback_only_however_it_was_started() -> None:
    settings = Settings(api_access="open")
    assert (await open_answer(settings, "127.0.0.1")).scopes == frozenset(Scope)
    assert await open_answer(settings, "10.0.0.7") is NOBODY
    published = Settings(api_access="open", api_published_on="127.0.0.1")
    assert (await open_answer(published, "172.18.0.5")).scopes == frozenset(Scope)
