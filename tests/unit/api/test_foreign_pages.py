"""A page of somebody else cannot have a browser change anything here, nor pass for us by a name of its own."""

from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.foreign_pages import ForeignPages
from api.middleware import RequestContext

OURS = "127.0.0.1:8000"


async def answer(method: str, headers: dict[str, str], *, path: str = "/api/ingest", **body: Any) -> httpx.Response:
    async def done(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("done")(scope, receive, send)

    app = RequestContext(ForeignPages(done, ["api.example.org"], ["https://shop.example"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{OURS}") as client:
        return await client.request(method, path, headers=headers, **body)


@pytest.mark.parametrize("headers", [
    {},
    {"Origin": f"http://{OURS}"},
    {"Origin": f"http://{OURS}", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"},
])  # fmt: skip
async def test_programs_our_own_pages_and_allowed_ones_may_change_something(headers: dict[str, str]) -> None:
    assert (await answer("POST", headers)).text == "done"


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"},
])  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
async def test_a_page_of_another_origin_may_change_nothing(method: str, headers: dict[str, str]) -> None:
    refused = await answer(method, headers)
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:headrace:problem:foreign-origin"


async def test_a_page_of_another_origin_may_ask_and_cannot_read() -> None:
    """The answer goes to the browser, which keeps it from a page that CORS does not name."""
    asked = await answer("GET", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
    assert asked.status_code == 200
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
async def test_a_body_as_forms_send_it_is_refused(kind: str) -> None:
    refused = await answer("POST", {"Content-Type": kind}, content=b'{"a": 1}')
    assert refused.status_code == 415
    assert "application/json" in refused.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/geo+json"])
async def test_json_is_taken(kind: str) -> None:
    assert (await answer("POST", {"Content-Type": kind}, content=b"{}")).text == "done"


async def test_a_webhook_takes_what_its_source_sends() -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await answer("POST", kind, path="/webhooks/shop", content=b"{}")).text == "done"


@pytest.mark.parametrize("host", [
    "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "shop.localhost", "[::1]:8000", "10.1.2.3", "api:8000",
    "api.example.org", "API.example.org:443", "api.example.org.",
])  # fmt: skip
async def test_names_that_nobody_else_can_have_and_our_own_are_answered(host: str) -> None:
    assert (await answer("GET", {"Host": host})).text == "done"


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
    "api.example.org.evil.example",
])  # fmt: skip
async def test_a_name_that_somebody_has_let_point_here_is_not(host: str) -> None:
    refused = await answer("GET", {"Host": host})
    assert refused.status_code == 421
    assert "ALLOWED_HOSTS" in refused.json()["detail"]


async def test_a_probe_may_come_by_any_name() -> None:
    assert (await answer("GET", {"Host": "evil.example"}, path="/api/health")).text == "done"


async def test_every_answer_says_that_it_is_what_it_says_and_may_not_be_framed() -> None:
    for response in (await answer("GET", {}), await answer("GET", {"Host": "evil.example"})):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        # By `X-API-Key` no cache on the way knows that an answer is one caller's.
        assert response.headers["cache-control"] == "private, no-cache"
