"""The promises of the customer API to a source that pages through it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from mock_server.app import create_app
from mock_server.records import CustomerStore, DataFileError
from runtime.errors import SettingsError
from runtime.settings import Settings


async def page_of(client: httpx.AsyncClient, **parameters: str | int) -> dict[str, Any]:
    answer = await client.get("/api/customers", params=parameters)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_health_counts_the_customers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy", "customers": 10_000})


async def test_the_first_page_holds_ten_customers_without_a_limit(client: httpx.AsyncClient) -> None:
    body = await page_of(client)
    assert [customer["customer_id"] for customer in body.pop("data")] == [f"CUST{n:03}" for n in range(1, 11)]
    assert body == {"total": 10_000, "page": 1, "limit": 10, "total_pages": 1000}


async def test_the_pages_together_are_every_customer_once(client: httpx.AsyncClient) -> None:
    ids = [c["customer_id"] for page in range(1, 101) for c in (await page_of(client, page=page, limit=100))["data"]]
    assert len(ids) == len(set(ids)) == 10_000


async def test_the_last_page_holds_the_rest(client: httpx.AsyncClient) -> None:
    body = await page_of(client, page=102, limit=99)
    assert (len(body["data"]), body["total_pages"]) == (10_000 - 101 * 99, 102)


@pytest.mark.parametrize("page", [1001, 10**30])
async def test_a_page_past_the_end_is_empty_and_keeps_the_totals(client: httpx.AsyncClient, page: int) -> None:
    body = await page_of(client, page=page)
    assert body == {"data": [], "total": 10_000, "page": page, "limit": 10, "total_pages": 1000}


async def test_a_limit_of_100_is_the_largest(client: httpx.AsyncClient) -> None:
    assert len((await page_of(client, limit=100))["data"]) == 100


@pytest.mark.parametrize("name", ["page", "limit"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1.0", "abc", "", "+1", "1_0", "٣", "9" * 5000])
async def test_a_number_that_makes_no_sense_is_refused_by_name(
    client: httpx.AsyncClient, name: str, value: str
) -> None:
    answer = await client.get("/api/customers", params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["message"].startswith(f"{name}='{value[:40]}")


async def test_a_limit_over_100_is_refused_with_the_bound(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/customers", params={"limit": 101})
    assert answer.status_code == 400
    assert answer.json()["message"] == "limit='101': Input should be less than or equal to 100"


async def test_every_wrong_parameter_is_named(client: httpx.AsyncClient) -> None:
    message = (await client.get("/api/customers", params={"page": 0, "limit": "x"})).json()["message"]
    assert "page='0'" in message
    assert "limit='x'" in message


async def test_one_customer_is_the_same_as_on_its_page(client: httpx.AsyncClient) -> None:
    (listed,) = (await page_of(client, page=5000, limit=1))["data"]
    answer = await client.get(f"/api/customers/{listed['customer_id']}")
    assert (answer.status_code, answer.json()) == (200, listed)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_an_unknown_customer_is_404_with_its_id(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/api/customers/CUST999", json={} if method == "PATCH" else None)
    assert answer.status_code == 404
    assert answer.json() == {"error": "not_found", "message": "No customer has the id 'CUST999'"}


async def test_an_unknown_path_is_404_and_a_wrong_method_405_in_the_same_shape(client: httpx.AsyncClient) -> None:
    unknown, wrong = await client.get("/nowhere"), await client.delete("/api/customers/CUST001")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")


async def test_a_change_shows_in_the_customer_and_its_page_until_a_reset(client: httpx.AsyncClient) -> None:
    before = (await client.get("/api/customers/CUST002")).json()
    changed = await client.patch("/api/customers/CUST002", json={"last_name": "Smythe", "phone": None})
    after = before | {"last_name": "Smythe", "phone": None}
    assert (changed.status_code, changed.json()) == (200, after)
    assert (await client.get("/api/customers/CUST002")).json() == after
    assert (await page_of(client))["data"][1] == after

    answer = await client.post("/api/reset")
    assert (answer.status_code, answer.json()) == (200, {"status": "reset", "customers": 10_000})
    assert (await client.get("/api/customers/CUST002")).json() == before


async def test_a_change_does_not_check_values_so_that_bad_ones_can_be_rehearsed(client: httpx.AsyncClient) -> None:
    answer = await client.patch("/api/customers/CUST003", json={"email": "not an email", "account_balance": "?"})
    assert (answer.json()["email"], answer.json()["account_balance"]) == ("not an email", "?")


@pytest.mark.parametrize("field", ["customer_id", "nickname"])
async def test_a_change_of_the_key_or_of_an_unknown_field_is_refused(client: httpx.AsyncClient, field: str) -> None:
    answer = await client.patch("/api/customers/CUST001", json={"last_name": "X", field: "x"})
    assert answer.status_code == 400
    assert answer.json()["message"] == f"{field}='x': Extra inputs are not permitted"
    assert (await client.get("/api/customers/CUST001")).json()["last_name"] == "Doe"


@pytest.mark.parametrize("body", [b"{", b"[1]", b"", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.patch("/api/customers/CUST001", content=body, headers=headers)
    assert answer.status_code == 400
    assert "body" in answer.json()["message"]


async def test_an_unchanged_page_is_304_and_a_changed_one_is_sent(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/api/customers")).headers["etag"]
    same = await client.get("/api/customers", headers={"If-None-Match": f'"other", W/{etag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    await client.patch("/api/customers/CUST010", json={"address": "Elsewhere 1"})
    changed = await client.get("/api/customers", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_customers_ask_for_the_key_only_where_it_is_required(
    settings: Settings, client_of: Callable[[Settings], httpx.AsyncClient]
) -> None:
    guarded = settings.model_copy(update={"api_key": SecretStr("k-1"), "mock_require_api_key": True})
    async with client_of(guarded) as client:
        statuses = [
            (await client.get("/api/customers", headers=headers)).status_code
            for headers in ({}, {"X-API-Key": "k-2"}, {"X-API-Key": "k-1"})
        ]
        assert statuses == [401, 401, 200]
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/posts/1")).status_code == 200
    async with client_of(guarded.model_copy(update={"mock_require_api_key": False})) as client:
        assert (await client.get("/api/customers")).status_code == 200


async def test_a_required_key_that_is_not_set_stops_the_start(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="API_KEY is not"):
        create_app(settings.model_copy(update={"mock_require_api_key": True}), CustomerStore([]))


async def test_records_that_cannot_be_served_stop_the_start() -> None:
    with pytest.raises(DataFileError, match="number 2"):
        CustomerStore([b'{"customer_id":"a"}', b'{"id":"b"}'])
    with pytest.raises(DataFileError, match="'a'"):
        CustomerStore([b'{"customer_id":"a"}', b'{"customer_id":"a"}'])


async def test_the_openapi_document_promises_no_status_that_never_comes(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    statuses = {status for path in paths.values() for method in path.values() for status in method["responses"]}
    assert statuses == {"200", "4XX"}
