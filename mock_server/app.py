"""The HTTP surface of the mock server: customers to page through and to change, and posts.

Every error is `{"error": code, "message": sentence}`. Pages, customers and posts carry an ETag.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from mock_server.answers import REFUSALS, Refusal, answer_http_exception, answer_invalid_request, answer_refusal, tagged
from mock_server.customer_store import CustomerStore
from mock_server.data_files import CUSTOMERS_FILE, POSTS_FILE, read_records
from mock_server.parameters import CustomerChanges, Limit, Page
from mock_server.posts import posts_router
from runtime.errors import SettingsError
from runtime.settings import Settings


def create_app(settings: Settings, customers: CustomerStore | None = None) -> FastAPI:
    """The application, with the files of this package in memory (read here; blocks).

    Raises DataFileError if a file cannot be served, SettingsError if a key is required and none is set.
    """
    app = FastAPIOffline(
        title="Headrace mock server",
        description="A customer API to ingest from. Changes live in memory and end with the process.",
        exception_handlers={
            Refusal: answer_refusal,
            RequestValidationError: answer_invalid_request,
            HTTPException: answer_http_exception,
        },
    )
    store = customers if customers is not None else CustomerStore(read_records(CUSTOMERS_FILE))
    guards = [Depends(_key_check(settings))] if settings.mock_require_api_key else []

    @app.get("/api/health", tags=["health"])
    async def health() -> dict[str, str | int]:
        return {"status": "healthy", "customers": len(store)}

    app.include_router(_customers_router(store), dependencies=guards)
    app.include_router(posts_router(read_records(POSTS_FILE)))
    return app


def _key_check(settings: Settings) -> Callable[[str | None], Awaitable[None]]:
    if settings.api_key is None:
        raise SettingsError("MOCK_REQUIRE_API_KEY is set but API_KEY is not: set API_KEY to the key to ask for")
    expected = settings.api_key.get_secret_value().encode()

    async def check(x_api_key: Annotated[str | None, Header()] = None) -> None:
        if x_api_key is None:
            raise Refusal(401, "unauthorized", "Send the API key in the X-API-Key header")
        if not secrets.compare_digest(x_api_key.encode(), expected):
            raise Refusal(401, "unauthorized", "The key in the X-API-Key header is not the one that is asked for")

    return check


def _customers_router(store: CustomerStore) -> APIRouter:
    router = APIRouter(tags=["customers"], responses=REFUSALS)

    @router.get("/api/customers")
    async def list_customers(request: Request, page: Page = 1, limit: Limit = 10) -> Response:
        """One page of customers, in a fixed order; past the last page `data` is empty."""
        return tagged(request, store.page(page, limit))

    @router.get("/api/customers/{customer_id}")
    async def get_customer(request: Request, customer_id: str) -> Response:
        """One customer."""
        return tagged(request, store.get(customer_id))

    @router.patch("/api/customers/{customer_id}")
    async def change_customer(request: Request, customer_id: str, changes: CustomerChanges) -> Response:
        """Set the fields in the body and answer with the customer as it is now, until the next reset or restart."""
        return tagged(request, store.change(customer_id, changes.model_dump(exclude_unset=True)))

    @router.post("/api/reset")
    async def reset() -> dict[str, str | int]:
        """Undo every change."""
        store.reset()
        return {"status": "reset", "customers": len(store)}

    return router
