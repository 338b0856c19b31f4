"""A path says which methods it takes, and takes no word of a path for a value; a time is written as one."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from starlette.routing import Match

from api.app import create_app
from api.parameters import OptionalTime
from runtime.settings import Settings


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(Settings(api_access="open")))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


@pytest.mark.parametrize(
    ("request_line", "allowed"),
    [
        ("OPTIONS /api/customers/CUST001", "DELETE, GET"),
        ("PUT /topics/customers.raw/messages", "GET, POST"),
        ("PUT /users", "GET, POST"),
        ("PATCH /users/", "GET, POST"),
        ("PUT /users/ada@example.org", "DELETE, GET, PATCH"),
        ("GET /failures/discard", "POST"),
        ("GET /failures/1/retry", "POST"),
        ("POST /", "GET"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_answered_by_those_that_it_takes(
    client: httpx.AsyncClient, request_line: str, allowed: str
) -> None:
    method, _, path = request_line.partition(" ")
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_an_id_of_thousands_of_digits_is_no_error_of_ours() -> None:
    routes = create_app(Settings(api_access="open")).router.routes
    scope = {"type": "http", "method": "GET", "path": f"/failures/{'9' * 5000}", "headers": []}
    assert any(route.matches(dict(scope))[0] == Match.FULL for route in routes)


@pytest.mark.parametrize("given", ["0.5", 0.5, "1700000000", 1700000000, "1e3", True, "now", "2024-01-31T"])
def test_a_time_is_written_as_one(given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(OptionalTime).validate_python(given)


@pytest.mark.parametrize("given", ["2024-01-31", "2024-01-31T08:30:00Z", "2024-01-31 08:30:00+01:00", None])
def test_times_and_dates_are_taken(given: str | None) -> None:
    assert (TypeAdapter(OptionalTime).validate_python(given) is None) == (given is None)
