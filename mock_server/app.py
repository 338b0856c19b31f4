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
from mock_server.customer_store import CustomerStore, UnknownCustomer
from mock_server.parameters import CustomerChanges, Limit, Page
from mock_server.posts import PostList, posts_router
from runtime.errors import SettingsError
from runtime.settings import Settings


def create_app(settings: Settings, customers: CustomerStore | None = None, posts: PostList | None = None) -> FastAPI:
    """The application with its data in memory, by default the files of this package (read here; blocks).

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
    store = customers if customers is not None else CustomerStore.load()
    guards = [Depends(_key_check(settings))] if settings.mock_require_api_key else []
    app.include_router(_health_router(store))
    app.include_router(_customers_router(store), dependencies=guards)
    app.include_router(posts_router(posts if posts is not None else PostList.load()))
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


def _health_router(store: CustomerStore) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/api/health")
    async def health() -> dict[str, str | int]:
        return {"status": "healthy", "customers": len(store)}

    return router


def _customers_router(store: CustomerStore) -> APIRouter:
    router = APIRouter(tags=["customers"], responses=REFUSALS)

    @router.get("/api/customers")
    async def list_customers(request: Request, page: Page = 1, limit: Limit = 10) -> Response:
        """One page of customers, in a fixed order; past the last page `data` is empty."""
        return tagged(request, store.page(page, limit))

    @router.get("/api/customers/{customer_id}")
    async def get_customer(request: Request, customer_id: str) -> Response:
        """One customer."""
        try:
            return tagged(request, store.get(customer_id))
        except UnknownCustomer:
            raise _no_customer(customer_id) from None

    @router.patch("/api/customers/{customer_id}")
    async def change_customer(request: Request, customer_id: str, changes: CustomerChanges) -> Response:
        """Set the fields in the body and answer with the customer as it is now, until the next reset or restart."""
        try:
            return tagged(request, store.change(customer_id, changes.model_dump(exclude_unset=True)))
        except UnknownCustomer:
            raise _no_customer(customer_id) from None

    @router.post("/api/reset")
    async def reset() -> dict[str, str | int]:
        """Undo every change."""
        store.reset()
        return {"status": "reset", "customers": len(store)}

    return router


def _no_customer(customer_id: str) -> Refusal:
    return Refusal(404, "not_found", f"No customer has the id {customer_id!r}")
