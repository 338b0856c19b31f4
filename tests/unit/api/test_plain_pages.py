"""Pages that are asked for plainly: the answers are those of the general way, which gets whatever is not plain."""

import types
from typing import Any

import httpx
import msgspec
import pytest

import api.record_pages
from api.app import create_app
from api.plain_pages import Asked, plainly
from api.queries.json_pages import JsonSlice
from runtime.settings import Settings

CURSOR = "WyJhIl0"  # ["a"]


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (b"", Asked(None, 10, None)),
        (b"page=1", Asked(1, 10, None)),
        (b"limit=100", Asked(None, 100, None)),
        (b"page=12&limit=7", Asked(12, 7, None)),
        (f"cursor={CURSOR}&limit=5".encode(), Asked(None, 5, CURSOR)),
    ],
)
def test_a_plain_query_is_read(query: bytes, asked: Asked) -> None:
    assert plainly(query) == asked


@pytest.mark.parametrize(
    "query",
    [b"page=0", b"page=-1", b"page=01", b"limit=101", b"limit=0", b"page=1&page=2", b"page=1&cursor=a", b"pages=1",
     b"page=%31", b"page=1&", b"page=1limit=1", b"page=1\n", b"cursor=", b"cursor=a%3D", b"limit=1&page=2",
     b"page=9999999999999", b"page=\xd9\xa1"],
)  # fmt: skip
def test_any_other_query_is_left_to_the_general_way(query: bytes) -> None:
    assert plainly(query) is None


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    async def asked(*arguments: Any) -> JsonSlice:
        return JsonSlice(msgspec.Raw(msgspec.json.encode(arguments[2:])), 25, more=True, last=("a",))

    monkeypatch.setattr(api.record_pages, "json_slice", asked)
    app = create_app(Settings(api_access="open"))
    app.state.clients = types.SimpleNamespace(engine=None)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api")


@pytest.mark.parametrize(
    ("plain", "general"),
    [
        ("", "limit=%31%30"),
        ("page=2", "page=%32"),
        ("page=2&limit=7", "limit=7&page=2"),
        ("limit=100", "limit=%3100"),
        (f"cursor={CURSOR}&limit=5", f"limit=5&cursor={CURSOR}"),
        ("cursor=nonsense", "cursor=%6eonsense"),
    ],
)
async def test_both_ways_answer_alike(client: httpx.AsyncClient, plain: str, general: str) -> None:
    async with client:
        answers = [await client.get(f"/api/customers?{query}") for query in (plain, general)]
    assert plainly(plain.encode()) is not None
    assert plainly(general.encode()) is None
    one, other = ((answer.status_code, _said(answer)) for answer in answers)
    assert one == other


def _said(answer: httpx.Response) -> dict[str, Any]:
    said: dict[str, Any] = answer.json()
    said.pop("request_id", None)
    return said
