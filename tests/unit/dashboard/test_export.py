from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from dashboard.api_client import Api, ApiProblem
from dashboard.export import LISTS, _json, cell_text, rows


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"), (" =1", "' =1"), ("\ufeff@x", "'\ufeff@x"), ("\n=1", "'\n=1"),
        ("@x", "'@x"), ("plain", "plain"), (None, ""), (-5, "-5"), (Decimal("-1.50"), "-1.50"),
        ({"a": 1}, '{"a":1}'), ([Decimal("34.50")], "[34.50]"),
        (Decimal("123456789012345678.90"), "123456789012345678.90"),
    ],
)  # fmt: skip
def test_no_spreadsheet_runs_what_a_record_says(value: object, written: str) -> None:
    assert cell_text(value) == written


def _api(answer: Callable[[httpx.Request], httpx.Response]) -> Api:
    return Api("http://api", httpx.MockTransport(answer))


async def test_a_list_is_read_to_its_end_however_it_is_paged() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        before = request.url.params.get("before")
        assert request.url.params["state"] == "all"
        return httpx.Response(
            200, json={"data": [{"id": 1}] if before else [{"id": 2}], "next_before": None if before else 2}
        )

    found = [row async for page in rows(_api(answer), "/failures/items", {"state": "all"}) for row in page]
    assert found == [{"id": 2}, {"id": 1}]


async def test_a_search_ends_where_the_api_shows_no_more() -> None:
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(int(request.url.params["page"]))
        if asked[-1] > 100:
            return httpx.Response(400, json={"title": "Bad Request", "detail": "its first 10,000 matches only"})
        return httpx.Response(200, json={"data": [{"key": "A"}] * 100})

    found = [row async for page in rows(_api(answer), "/search", {"q": "a"}) for row in page]
    assert (len(found), asked[-1]) == (10_000, 100)


async def test_records_of_a_source_are_read_page_by_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["source"] == "titanic"
        last = request.url.params["page"] == "3"
        return httpx.Response(200, json={"data": [{"id": 1}] * (5 if last else 100)})

    assert LISTS["records-of"] == "/data"
    found = [row async for page in rows(_api(answer), LISTS["records-of"], {"source": "titanic"}) for row in page]
    assert len(found) == 205


async def test_a_file_of_json_has_numbers_with_all_their_digits() -> None:
    async def none() -> AsyncIterator[list[dict[str, Any]]]:
        return
        yield

    written = "".join([part async for part in _json([{"price": Decimal("34.50"), "word": "é"}], none())])
    assert written == '[\n{"price":34.50,"word":"é"}\n]\n'


async def test_a_problem_of_the_api_is_told_with_its_words() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json={"title": "Service Unavailable", "detail": "postgres does not answer"})

    with pytest.raises(ApiProblem, match="postgres does not answer") as raised:
        await _api(answer).get("/runs")
    assert (raised.value.status, raised.value.silent) == (503, False)


async def test_an_api_that_is_not_there_is_silent() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ApiProblem) as raised:
        await _api(answer).get("/runs")
    assert raised.value.silent


async def test_decimals_keep_their_digits_and_who_acts_is_in_the_request_id() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b'{"value": 40.0000}')

    api = _api(answer)
    assert await api.get("/x", a="", b=None) == {"value": Decimal("40.0000")}
    await api.act("POST", "/failures/1/retry", "ada")
    assert str(asked[0].url) == "http://api/x"
    assert asked[1].headers["X-Request-ID"].startswith("dashboard:ada:")
