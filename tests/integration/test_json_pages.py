"""Pages as Postgres writes them are those of the rows, byte for byte, and their totals are exact."""

import datetime
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.answers import encode
from api.database import read_engine, reading
from api.queries.json_pages import json_slice
from api.queries.records import slice_after, slice_and_count
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.fields import Date, Number, Phone, WholeNumber
from schemas.fields.field_type import FieldType, TextColumn
from schemas.registry import all_datasets, dataset_named
from stores.postgres_engine import postgres_engine
from stores.tables import dataset_table
from tests.integration.api_client import CUSTOMERS, api_client, customer, store

TEXTS = [
    'plain "quoted" \\ / back',
    "".join(chr(code) for code in range(1, 0xA0)),
    "é ß \u2028\u2029 \ufeff 漢字 \U0001f600 \ufffd",
    "x" * 9_999,
    "é" * 10_000,
    "é" * 10_001,
]
DATES = [datetime.date(1, 1, 2), datetime.date(999, 12, 31), datetime.date(2024, 2, 29), datetime.date(9999, 12, 30)]
TIMES = [
    datetime.datetime(2024, 5, 17, 8, 30, 1, tzinfo=datetime.UTC),
    datetime.datetime(2024, 5, 17, 8, 30, 1, 250000, tzinfo=datetime.UTC),
    datetime.datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=datetime.UTC),
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=datetime.UTC),
]
ENDLESS = datetime.datetime.max.replace(tzinfo=datetime.UTC)
"""The driver's word for infinity."""
NUMBERS = ["0.00", "0.01", "10000.00", "99999999.90", "1234567890.12"]
WIDE = ["0.000001", "123.4567", "-0.0001234567", "12345678901234567890123456789012345678.1234"]
"""In a column without bounds: any number of places."""
OTHERWISE = ["0.0000001", "-1.5e-9", "10000", "1e20", "0.0000000", "NaN"]
"""In such a column these are written in another way by Postgres, or may be."""


@pytest.fixture
async def engine(migrated_settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = read_engine(migrated_settings)
    yield engine
    await engine.dispose()


def values(kind: FieldType, number: int) -> Any:
    """The value of a field of this type in the row of that number; None now and then."""
    if number % 5 == 4:
        return None
    match kind:
        case WholeNumber():
            return [kind.minimum, kind.maximum, 10_000][number % 3]
        case Number():
            of_this = [*NUMBERS, *(WIDE if kind.most_places else [])]
            return Decimal(of_this[number % len(of_this)])
        case Date():
            return DATES[number % len(DATES)]
        case Phone():
            return "+4915112345678"
        case TextColumn():
            return TEXTS[number % len(TEXTS)][: kind.max_length]
    raise LookupError(f"what has a field of type {type(kind).__name__}? add its values here")


def rows_of(dataset: Dataset, count: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        row: dict[str, Any] = {}
        for field in dataset.fields:
            value = values(field.type, number)
            row[field.name] = values(field.type, 0) if value is None and field.required else value
        row |= {name: f'{number:03}é"{row[name] or ""}'[:40] for name in dataset.key + dataset.unique}
        rows.append(
            row | {"created_at": TIMES[number % len(TIMES)], "updated_at": [None, *TIMES][number % (len(TIMES) + 1)]}
        )
    return rows


async def as_rows(
    engine: AsyncEngine, dataset: Dataset, after: tuple[str, ...], offset: int, limit: int
) -> tuple[bytes, int, bool]:
    async with reading(engine) as connection:
        if after:
            part = await slice_after(connection, dataset, after, limit)
            _, total = await slice_and_count(connection, dataset, 0, 1)
        else:
            part, total = await slice_and_count(connection, dataset, offset, limit)
    return encode(part.rows), total, part.more


@pytest.mark.parametrize("name", [dataset.name for dataset in all_datasets()])
async def test_a_page_is_byte_for_byte_that_of_its_rows(
    name: str, migrated_settings: Settings, engine: AsyncEngine
) -> None:
    dataset = dataset_named(name)
    rows = rows_of(dataset, 64)
    await put(migrated_settings, dataset, rows)
    after: tuple[str, ...] = ()
    for offset, limit in [(0, 10), (0, 63), (0, 64), (0, 100), (60, 10), (64, 10), (10**14, 10)]:
        found = await json_slice(engine, dataset, (), offset, limit)
        assert found is not None
        data, total, more = await as_rows(engine, dataset, (), offset, limit)
        assert bytes(found.data) == data
        assert (found.total, found.more) == (total, more) == (64, offset + limit < 64)
        after = found.last if (offset, limit) == (0, 10) else after
    for limit in (10, 54, 100):
        found = await json_slice(engine, dataset, after, 0, limit)
        assert found is not None
        assert (bytes(found.data), found.total, found.more) == await as_rows(engine, dataset, after, 0, limit)


async def put(settings: Settings, dataset: Dataset, rows: list[dict[str, Any]]) -> None:
    if "raw_partition" in {column.name for column in dataset_table(dataset).c}:
        await store(settings, dataset, rows)
        return
    engine = postgres_engine(settings)
    async with engine.begin() as connection:
        await connection.execute(
            dataset_table(dataset).insert(), [row | {"version": 1, "search_text": ""} for row in rows]
        )
    await engine.dispose()


@pytest.mark.parametrize("number", OTHERWISE)
async def test_a_number_that_postgres_writes_in_another_way_is_not_taken_from_there(
    number: str, migrated_settings: Settings, engine: AsyncEngine
) -> None:
    records = dataset_named("records")
    rows: list[Mapping[str, Any]] = [
        {"source": "csv", "source_name": "s", "source_id": str(n), "name": "n", "value": value, "description": None}
        for n, value in enumerate([Decimal(1) / 4, Decimal(number)])
    ]
    await store(migrated_settings, records, rows)
    assert await json_slice(engine, records, (), 0, 1) is not None
    assert await json_slice(engine, records, (), 0, 2) is None
    async with api_client(migrated_settings) as client:
        answer = await client.get("/data")
        data, _, _ = await as_rows(engine, records, (), 0, 10)
        assert answer.content.startswith(b'{"data":' + data + b',"total":2,')


async def test_a_time_without_end_is_not_taken_from_postgres_json(
    migrated_settings: Settings, engine: AsyncEngine
) -> None:
    rows = [customer(1), customer(2, date_of_birth=datetime.date.max), customer(3, updated_at=ENDLESS)]
    await store(migrated_settings, CUSTOMERS, [{"updated_at": None, **row} for row in rows])
    assert [await json_slice(engine, CUSTOMERS, (), offset, 1) is not None for offset in range(3)] == [
        True,
        False,
        False,
    ]


async def test_totals_of_whole_datasets_are_exact_as_rows_come_and_go(migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(n) for n in range(1, 26)])
    async with api_client(migrated_settings) as client:
        assert await total(client, "/api/customers") == 25
        engine = postgres_engine(migrated_settings, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text("DELETE FROM customers WHERE customer_id < 'CUST004'"))
            assert await total(client, "/api/customers?cursor=&limit=5") == 22
            assert await total(client, "/api/customers?page=9") == 22
        await engine.dispose()


async def total(client: httpx.AsyncClient, path: str) -> int:
    return int((await client.get(path)).json()["total"])


async def test_a_connection_that_postgres_has_closed_is_replaced(migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    engine = postgres_engine(migrated_settings, isolation_level="AUTOCOMMIT")
    async with api_client(migrated_settings) as client, engine.connect() as connection:
        for _ in range(3):
            await connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headrace-api'")
            )
            answers = [await client.get("/api/customers") for _ in range(6)]
            assert {answer.status_code for answer in answers} == {200}
    await engine.dispose()
