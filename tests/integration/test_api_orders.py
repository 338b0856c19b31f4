"""`GET /orders` and `GET /orders/totals`: filters, pages, exact money."""

import datetime
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runtime.settings import Settings
from tests.integration.api_client import api_client, store
from tests.integration.postgres_sink_driver import ORDERS


def row(number: int, product: str, quantity: int, price: str, day: str, customer_id: str = "C1") -> dict[str, Any]:
    return {
        "order_id": f"O{number}",
        "customer_id": customer_id,
        "product": product,
        "quantity": quantity,
        "price": Decimal(price),
        "order_date": datetime.date.fromisoformat(day),
    }


ROWS = [
    row(1, "Pen", 3, "0.10", "2024-01-01"),
    row(2, "Pen", 1, "0.20", "2024-01-31", "C2"),
    row(3, "Desk lamp", 2, "9999999999.99", "2024-02-29"),
    row(4, "Desk lamp", 1, "34.50", "2024-03-01", "C2"),
    row(5, "Müller's 100% pen", 1, "0.00", "2023-12-31"),
]


@pytest.fixture
async def client(migrated_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    await store(migrated_settings, ORDERS, ROWS)
    async with api_client(migrated_settings) as client:
        yield client


async def ids(client: httpx.AsyncClient, **parameters: str | int) -> list[int]:
    answer = await client.get("/orders", params=parameters)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["total"] == len(body["data"])
    return [int(row["order_id"][1:]) for row in body["data"]]


async def test_an_order_has_its_fields_and_its_price_to_the_cent(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders", params={"product": "Pen", "customer_id": "C2"})
    assert '"price":0.20,' in answer.text
    (found,) = answer.json()["data"]
    assert {name: found[name] for name in ("order_id", "customer_id", "product", "quantity", "order_date")} == {
        "order_id": "O2",
        "customer_id": "C2",
        "product": "Pen",
        "quantity": 1,
        "order_date": "2024-01-31",
    }
    assert '"price":9999999999.99,' in (await client.get("/datasets/orders/O3")).text


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"product": "Pen"}, [1, 2]),
        ({"product": "  Desk   lamp "}, [3, 4]),
        ({"product": "Müller's 100% pen"}, [5]),
        ({"product": "pen"}, []),
        ({"product": "%"}, []),
        ({"product": ""}, [1, 2, 3, 4, 5]),
        ({"customer_id": "C2"}, [2, 4]),
        ({"from": "2024-01-31"}, [2, 3, 4]),
        ({"to": "2024-01-31"}, [1, 2, 5]),
        ({"from": "2024-01-31", "to": "2024-02-29"}, [2, 3]),
        ({"from": "2024-02-29", "to": "2024-02-29"}, [3]),
        ({"min_price": "0.20"}, [2, 3, 4]),
        ({"max_price": "0.2"}, [1, 2, 5]),
        ({"min_price": "0.2", "max_price": "34.50"}, [2, 4]),
        ({"max_price": "0"}, [5]),
        ({"product": "Pen", "customer_id": "C2", "from": "2024-01-01", "max_price": "1"}, [2]),
        ({"product": "'; DROP TABLE orders; --"}, []),
    ],
)
async def test_orders_are_filtered_by_one_filter_and_by_all_together(
    client: httpx.AsyncClient, asked: dict[str, str], expected: list[int]
) -> None:
    assert await ids(client, **asked) == expected


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday", "from=2024-02-30", "from=1704067200", "to=2024-1-1", "from=2024-02-01&to=2024-01-31",
        "min_price=-1", "min_price=NaN", "min_price=1e3", "max_price=0.001", "min_price=2&max_price=1", "page=0",
        "limit=101", "limit=x", "page=1&cursor=", "cursor=nonsense", "product=%00",
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_a_problem_that_names_it(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/orders?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    named = {error["parameter"] for error in answer.json()["errors"]}
    assert named <= {part.partition("=")[0] for part in query.split("&")}


async def test_pages_by_number_and_by_cursor_keep_to_the_filter(client: httpx.AsyncClient) -> None:
    first = (await client.get("/orders?from=2024-01-01&limit=3")).json()
    assert [row["order_id"] for row in first["data"]] == ["O1", "O2", "O3"]
    assert (first["total"], first["page"], first["limit"], first["total_pages"]) == (4, 1, 3, 2)
    by_number = (await client.get("/orders?from=2024-01-01&limit=3&page=2")).json()
    by_cursor = (await client.get("/orders", params={"from": "2024-01-01", "cursor": first["next_cursor"]})).json()
    assert [row["order_id"] for row in by_number["data"]] == ["O4"]
    assert by_cursor["data"] == by_number["data"]
    assert (by_cursor["page"], by_cursor["next_cursor"]) == (None, None)
    beyond = (await client.get("/orders?page=9")).json()
    assert (beyond["data"], beyond["total"], beyond["total_pages"]) == ([], 5, 1)


async def test_totals_by_product_are_exact(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders/totals?by=product")
    assert answer.text == (
        '{"by":"product","data":['
        '{"product":"Desk lamp","orders":2,"quantity":3,"revenue":20000000034.48},'
        '{"product":"Müller\'s 100% pen","orders":1,"quantity":1,"revenue":0.00},'
        '{"product":"Pen","orders":2,"quantity":4,"revenue":0.50}'
        '],"total":3,"page":1,"limit":100,"total_pages":1,"orders":5,"quantity":8,"revenue":20000000034.98}'
    )
    assert (await client.get("/orders/totals")).text == answer.text


async def test_totals_by_month_count_only_orders_that_satisfy_the_filters(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/orders/totals?by=month&from=2024-01-01&to=2024-03-31&product=Pen")).json()
    assert answer["data"] == [{"month": "2024-01", "orders": 2, "quantity": 4, "revenue": 0.5}]
    assert (answer["orders"], answer["total"]) == (2, 1)
    months = (await client.get("/orders/totals?by=month")).json()["data"]
    assert [month["month"] for month in months] == ["2023-12", "2024-01", "2024-02", "2024-03"]


async def test_totals_come_in_pages_and_their_sums_are_of_all(client: httpx.AsyncClient) -> None:
    second = (await client.get("/orders/totals?by=month&limit=3&page=2")).json()
    assert [month["month"] for month in second["data"]] == ["2024-03"]
    assert (second["total"], second["total_pages"], second["orders"]) == (4, 2, 5)


async def test_past_the_last_page_the_sums_are_still_those_of_all(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders/totals?by=product&page=9")
    assert answer.text == (
        '{"by":"product","data":[],"total":3,"page":9,"limit":100,"total_pages":1,'
        '"orders":5,"quantity":8,"revenue":20000000034.98}'
    )


async def test_round_sums_are_plain_numbers(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, ORDERS, [row(6, "Bulk", 20_000, "50.00", "2024-05-05")])
    for page in (1, 2):
        answer = await client.get(f"/orders/totals?by=month&product=Bulk&page={page}")
        assert answer.text.endswith('"orders":1,"quantity":20000,"revenue":1000000.00}')


async def test_totals_over_no_orders_are_zero(client: httpx.AsyncClient) -> None:
    answer = await client.get("/orders/totals?product=Nothing")
    assert answer.text.endswith(
        '"data":[],"total":0,"page":1,"limit":100,"total_pages":0,"orders":0,"quantity":0,"revenue":0.00}'
    )


@pytest.mark.parametrize("query", ["by=customer", "by=", "by=month&from=x", "limit=0"])
async def test_totals_refuse_unknown_groups_and_wrong_values(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/orders/totals?{query}")).status_code == 400
