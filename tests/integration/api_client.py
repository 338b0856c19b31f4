"""The API in this process on real stores, for tests that ask it over ASGI; and rows to ask for."""

import datetime
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from asgi_lifespan import LifespanManager
from sqlalchemy import insert

from api.app import create_app
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import dataset_named
from schemas.text import fold
from stores.postgres_engine import postgres_engine
from stores.tables import dataset_table

CUSTOMERS = dataset_named("customers")
RECORDS = dataset_named("records")
STORED_AT = datetime.datetime(2024, 5, 17, 8, 30, 1, 250000, tzinfo=datetime.UTC)


@asynccontextmanager
async def api_client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that has been started, and is stopped in the end."""
    app = create_app(settings)
    async with LifespanManager(app, startup_timeout=20, shutdown_timeout=20):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as client:
            yield client


def customer(number: int, **fields: Any) -> dict[str, Any]:
    """A customer's row as the Postgres sink would store it, without its bookkeeping."""
    return {
        "customer_id": f"CUST{number:03}",
        "first_name": "Ada",
        "last_name": f"Byron{number}",
        "email": f"ada{number}@example.com",
        "phone": None,
        "address": None,
        "date_of_birth": None,
        "account_balance": None,
        **fields,
    }


def record(source_name: str, source_id: str, name: str, **fields: Any) -> dict[str, Any]:
    """A row of normalized_data."""
    return {
        "source": "csv",
        "source_name": source_name,
        "source_id": source_id,
        "name": name,
        "value": None,
        "description": None,
        **fields,
    }


def search_text(dataset: Dataset, row: Mapping[str, Any]) -> str:
    """The text that the sink stores to be searched."""
    return fold(" ".join(str(row[name]) for name in dataset.search_fields if row[name] is not None))


async def store(settings: Settings, dataset: Dataset, rows: Sequence[Mapping[str, Any]], version: int = 1) -> None:
    """Put rows into the dataset's table."""
    bookkeeping = {"version": version, "raw_partition": 0, "raw_offset": 0, "raw_timestamp": 0, "created_at": STORED_AT}
    full = [{**bookkeeping, "search_text": search_text(dataset, row), **row} for row in rows]
    engine = postgres_engine(settings)
    try:
        async with engine.begin() as connection:
            await connection.execute(insert(dataset_table(dataset)), full)
    finally:
        await engine.dispose()


def closed_port() -> int:
    """A loopback port on which nobody listens: a server that is down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
