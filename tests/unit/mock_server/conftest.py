"""The mock server as an in-process application: requests go through ASGI, no socket is opened."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from mock_server.app import create_app
from mock_server.records import CUSTOMERS_FILE, CustomerStore, read_records
from runtime.settings import Settings, load_settings

BASE_URL = "http://mock"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("API_KEY", "MOCK_REQUIRE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return load_settings()


@pytest.fixture(scope="session")
def shipped_customers() -> CustomerStore:
    return CustomerStore(read_records(CUSTOMERS_FILE))


@pytest.fixture
def client_of(shipped_customers: CustomerStore) -> Callable[[Settings], httpx.AsyncClient]:
    def build(settings: Settings) -> httpx.AsyncClient:
        app = create_app(settings, shipped_customers)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE_URL)

    return build


@pytest.fixture
async def client(
    settings: Settings, shipped_customers: CustomerStore, client_of: Callable[[Settings], httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    shipped_customers.reset()
    async with client_of(settings) as client:
        yield client
    shipped_customers.reset()
