"""The HTTP surface of the mock server: customers to page through and to change, and posts.

Every error is `{"error": code, "message": sentence}`. Pages, customers and posts carry an ETag.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError
from starlette.datastructures import URL
from starlette.exceptions import HTTPException

from mock_server.answers import REFUSALS, Refusal, answer_http_exception, answer_invalid_request, answer_refusal, tagged
from mock_server.records import CUSTOMERS_FILE, POSTS_FILE, CustomerStore, read_records
from runtime.errors import SettingsError
from runtime.settings import Settings

MAX_LIMIT = 100

POSTS_PAGE_SIZE = 10
"""json-server's page size where `_limit` is not given."""


def _digits_only(value: object) -> object:
    """Pydantic would also take `1.0`, `+1`, ` 1 ` and `1_000`; a page number is plain ASCII digits."""
    if isinstance(value, str):
        unsigned = value.removeprefix("-")
        if not (unsigned.isascii() and unsigned.isdecimal()):
            raise PydanticCustomError("not_an_integer", "must be an integer")
    return value


WholeNumber = Annotated[int, BeforeValidator(_digits_only)]

Page = Annotated[WholeNumber, Query(ge=1, description="Which page, counted from 1.")]
Limit = Annotated[WholeNumber, Query(ge=1, le=MAX_LIMIT, description="Customers per page.")]
PostPage = Annotated[WholeNumber | None, Query(ge=1, alias="_page", description="Which page; 10 posts unless _limit.")]
PostLimit = Annotated[WholeNumber | None, Query(ge=1, alias="_limit", description="At most this many posts.")]


class CustomerChanges(BaseModel):
    """The fields of a customer that may be changed; the ones left out stay.

    Values are not checked, unlike names: a source that starts to send bad values is worth rehearsing.
    """

    model_config = ConfigDict(extra="forbid")

    first_name: Any = None
    last_name: Any = None
    email: Any = None
    phone: Any = None
    address: Any = None
    date_of_birth: Any = None
    account_balance: Any = None
    created_at: Any = None


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
    app.include_router(_posts_router(read_records(POSTS_FILE)))
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


def _posts_router(posts: Sequence[bytes]) -> APIRouter:
    """`/posts` in the shape of JSONPlaceholder (json-server), so that a source can read either one unchanged.

    `posts` have the ids 1…n, in their order. It differs in one thing: a `_page` or `_limit` that makes no sense is
    refused with 400 instead of being guessed at.
    """
    router = APIRouter(tags=["posts"], responses=REFUSALS)

    @router.get("/posts")
    async def list_posts(request: Request, page: PostPage = None, limit: PostLimit = None) -> Response:
        """All posts, or one page of them with the total in X-Total-Count and the other pages in Link."""
        headers = {"X-Total-Count": str(len(posts))}
        if page is None:
            return tagged(request, _array(posts[:limit]), headers)
        size = POSTS_PAGE_SIZE if limit is None else limit
        headers["Link"] = _links(request.url, page, -(-len(posts) // size))
        start = (page - 1) * size
        return tagged(request, _array(posts[start : start + size]), headers)

    @router.get("/posts/{post_id}")
    async def get_post(request: Request, post_id: str) -> Response:
        """One post; as with JSONPlaceholder, an unknown one is 404 with an empty object."""
        known = post_id.isascii() and post_id.isdecimal() and len(post_id) <= len(str(len(posts)))
        if known and 1 <= int(post_id) <= len(posts):
            return tagged(request, posts[int(post_id) - 1])
        return Response(b"{}", status_code=404, media_type="application/json")

    return router


def _array(posts: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(posts)


def _links(url: URL, page: int, pages: int) -> str:
    targets = {"first": 1, "prev": page - 1, "next": page + 1, "last": pages}
    return ", ".join(
        f'<{url.include_query_params(_page=number)}>; rel="{relation}"'
        for relation, number in targets.items()
        if 1 <= number <= pages
    )
