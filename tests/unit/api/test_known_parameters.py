"""A query parameter that nobody knows is refused, wherever it is sent."""

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from producers.webhook.webhooks import Webhooks
from runtime.settings import Settings

LENIENT = {"/", "/livez", "/readyz", "/status", "/health", "/api/health", "/metrics", "/webhooks/{source}"}
"""Probes, scrapers and senders of webhooks add parameters of their own."""


def application() -> FastAPI:
    settings = Settings(api_access="open")
    app = create_app(settings)
    app.state.webhooks = Webhooks(settings)
    return app


APP = application()

OPERATIONS = [
    (method, path, {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"})
    for path, operations in APP.openapi()["paths"].items()
    for method, operation in operations.items()
]

STRICT = [one for one in OPERATIONS if one[1] not in LENIENT]


def named(value: Any) -> str | None:
    """Test ids are the same in every process: a set's order is not."""
    return value if isinstance(value, str) else None


async def ask(method: str, path: str, parameters: Any) -> httpx.Response:
    # Without its lifespan: nothing may be asked of a store before the parameters are known to be right.
    transport = httpx.ASGITransport(APP)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        return await client.request(method, re.sub(r"\{[^}]*\}", "1", path), params=parameters)


@pytest.mark.parametrize(("method", "path", "known"), STRICT, ids=named)
async def test_every_endpoint_refuses_a_parameter_that_it_does_not_know(
    method: str, path: str, known: set[str]
) -> None:
    answer = await ask(method, path, {"brand": "Bosch"})
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert problem["type"] == "urn:headrace:problem:unknown-parameter"
    assert "'brand'" in problem["detail"]
    assert problem["errors"] == [{"parameter": "brand", "message": "there is no such parameter"}]
    assert set(problem["known"]) == known
    assert all(name in problem["detail"] for name in known)


@pytest.mark.parametrize(("method", "path", "known"), [one for one in STRICT if one[2]], ids=named)
async def test_a_parameter_that_is_given_twice_is_refused(method: str, path: str, known: set[str]) -> None:
    for name in known:
        answer = await ask(method, path, [(name, "1"), (name, "2")])
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"] == [{"parameter": name, "message": "given more than once"}]


async def test_a_parameter_name_in_another_spelling_is_unknown() -> None:
    for name in ("Limit", "limit ", "limit[]", "", "first_date", "clients"):
        answer = await ask("GET", "/orders", {name: "1"})
        assert answer.json()["type"].endswith("unknown-parameter"), name


async def test_thousands_of_unknown_parameters_get_a_short_answer() -> None:
    answer = await ask("GET", "/data", {f"{number}" * 10: "x" for number in range(1000)})
    assert answer.status_code == 400
    assert len(answer.content) < 3000
    assert "and 995 more" in answer.json()["detail"]


async def test_probes_and_webhooks_may_be_sent_parameters_of_their_senders() -> None:
    assert {path for _, path, _ in OPERATIONS} >= LENIENT
    for path in ("/", "/livez", "/status"):
        assert (await ask("GET", path, {"brand": "Bosch"})).status_code == 200
    answer = await ask("POST", "/webhooks/shop", {"brand": "Bosch"})
    assert answer.json()["type"].endswith("not-found")


async def test_a_path_without_parameters_says_so() -> None:
    assert "no parameters are known here" in (await ask("GET", "/lag", {"group": "x"})).json()["detail"]
