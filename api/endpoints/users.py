"""`/users`: written to Postgres at once. The index and the other readers' caches follow, through the outbox."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.convertors import PathConvertor, register_url_convertor

from api.access import Scope, needs
from api.answers import JSON, encode, etag_of, json_answer, served_model
from api.cached_records import forget, serve_record
from api.clients import Clients, OurClients
from api.database import writing
from api.parameters import Cursor, Limit, OptionalPage, OptionalText, StrictRoute
from api.problems import ProblemAnswer, bad_parameter
from api.queries.records import Row
from api.queries.written_rows import KeyTaken, delete_row, insert_row, update_row
from api.record_pages import read_page
from api.search.service import search
from schemas.errors import InvalidField
from schemas.registry import dataset_named
from stores.outages import TableMisfit, table_trouble


class SomePath(PathConvertor):
    """A rest of the path that is not empty."""

    regex = ".+"


register_url_convertor("some", SomePath())

router = APIRouter(tags=["users"], route_class=StrictRoute)

USERS = dataset_named("users")

_FIELDS = {field.name: field.type for field in USERS.fields}


def in_normal_form(name: str, text: str) -> str:
    """The normal form of a user's field. Raises PydanticCustomError for what has none."""
    try:
        normal = _FIELDS[name].normalize(text)
    except InvalidField as error:
        raise PydanticCustomError("invalid_field", "{problem}", {"problem": error.message}) from None
    if not isinstance(normal, str):
        raise PydanticCustomError("blank", "must not be empty")
    return normal


# Strict: a number is no name here, though a CSV may have one.
Name = Annotated[
    str,
    Field(strict=True, json_schema_extra={"pattern": r"\S"}, examples=["Ada Lovelace"]),
    AfterValidator(partial(in_normal_form, "name")),
]
Address = Annotated[
    str, Field(strict=True, examples=["ada@example.org"]), AfterValidator(partial(in_normal_form, "email"))
]
Role = Annotated[
    str,
    Field(strict=True, json_schema_extra={"pattern": r"\S"}, examples=["admin"]),
    AfterValidator(partial(in_normal_form, "role")),
]


class NewUser(BaseModel):
    """All three are needed. Text is trimmed, the address put in lower case."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    email: Address
    role: Role


class UserChanges(BaseModel):
    """Fields to change; those that are not named stay."""

    model_config = ConfigDict(extra="forbid")

    # Never used, since only what was sent is looked at; a default of None would let null pass for a name.
    name: Name = Field(default_factory=str)
    email: Address = Field(default_factory=str)
    role: Role = Field(default_factory=str)


ServedUser = served_model(USERS)

EmailInPath = Annotated[str, Path(description="The e-mail address, in any case.", max_length=1000)]

TAKEN: dict[int | str, dict[str, Any]] = {409: {"description": "Somebody has that e-mail address, in whatever case"}}


class UserListing(BaseModel):
    """A page of users. `backend` and `degraded` are there in answers to a search: who answered, as in `/search`."""

    data: list[ServedUser]  # type: ignore[valid-type]
    total: int
    page: int | None
    limit: int
    total_pages: int
    next_cursor: str | None
    backend: str | None = None
    degraded: bool | None = None


@router.post(
    "/users", status_code=HTTPStatus.CREATED, response_model=ServedUser, summary="Create a user", responses=TAKEN
)
@router.post(
    "/users/", status_code=HTTPStatus.CREATED, response_model=ServedUser, summary="Create a user", responses=TAKEN
)
@needs(Scope.WRITE)
async def create_user(clients: OurClients, user: NewUser) -> Response:
    """Answers when Postgres has the user. Kafka, Elasticsearch and Redis may be away: they hear of it when they are
    back.
    """
    try:
        async with _writing(clients) as connection:
            written = await insert_row(connection, USERS, user.model_dump())
    except KeyTaken as error:
        raise _taken(error) from None
    await forget(clients, USERS, written.versions)
    return _answer(written.row, HTTPStatus.CREATED)


@router.get("/users/", response_model=UserListing, summary="Users, page by page or by a search")
@router.get("/users", response_model=UserListing, summary="Users, page by page or by a search")
@needs(Scope.READ)
async def list_users(
    clients: OurClients,
    q: Annotated[OptionalText, Query(description="Words; the last one may be a beginning.")] = None,
    page: OptionalPage = None,
    limit: Limit = 10,
    cursor: Cursor = None,
) -> Response:
    """Without `q` by address; with it best matches first, from Elasticsearch, or from Postgres if that is away."""
    if q is None:
        return await read_page(clients, USERS, page, limit, cursor)
    if cursor is not None:
        raise bad_parameter("cursor", cursor, "a search goes on by page")
    page = page or 1
    found = await search(clients, [USERS], q, page, limit)
    return json_answer(
        {
            "data": [match.row for match in found.matches],
            "total": found.total,
            "page": page,
            "limit": limit,
            "total_pages": -(-found.total // limit),
            "next_cursor": None,
            "backend": found.backend,
            "degraded": found.degraded,
        }
    )


@router.get("/users/{email:some}", response_model=ServedUser, summary="One user")
@needs(Scope.READ)
async def get_user(request: Request, email: EmailInPath) -> Response:
    """From Redis if it is there, else from Postgres."""
    return await serve_record(request, USERS, _key(email))


@router.patch("/users/{email:some}", response_model=ServedUser, summary="Change a user", responses=TAKEN)
@needs(Scope.WRITE)
async def change_user(clients: OurClients, email: EmailInPath, changes: UserChanges) -> Response:
    """Only what is named changes; the address may. What changes nothing leaves `updated_at` as it is."""
    try:
        async with _writing(clients) as connection:
            written = await update_row(connection, USERS, _key(email), changes.model_dump(exclude_unset=True))
    except KeyTaken as error:
        raise _taken(error) from None
    if written is None:
        raise _unknown(email)
    await forget(clients, USERS, written.versions)
    return _answer(written.row, HTTPStatus.OK)


@router.delete("/users/{email:some}", status_code=HTTPStatus.NO_CONTENT, summary="Delete a user")
@needs(Scope.WRITE)
async def delete_user(clients: OurClients, email: EmailInPath) -> Response:
    """From Postgres at once; from the index and the cache when the event comes."""
    async with _writing(clients) as connection:
        written = await delete_row(connection, USERS, _key(email))
    if written is None:
        raise _unknown(email)
    await forget(clients, USERS, written.versions)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@asynccontextmanager
async def _writing(clients: Clients) -> AsyncIterator[AsyncConnection]:
    """A transaction for users that are valid as declared. Raises TableMisfit where their table refuses one."""
    try:
        async with writing(clients.engine) as connection:
            yield connection
    except DBAPIError as error:
        if reason := table_trouble(error, of_valid_rows=True):
            raise TableMisfit(reason) from error
        raise


def _key(email: str) -> str:
    try:
        return USERS.normal_key(email)
    except ValueError:
        raise _unknown(email) from None  # nobody can have it


def _answer(row: Row | None, status: HTTPStatus) -> Response:
    assert row is not None  # noqa: S101 (it was not deleted)
    content = encode(row)
    headers = {"ETag": etag_of(content)}
    headers["Location"] = f"/users/{quote(str(row['email']), safe='@')}"
    return Response(content, status, headers, JSON)


def _taken(error: KeyTaken) -> ProblemAnswer:
    detail = f"There is a user with the e-mail address {error.key!r} already"
    return ProblemAnswer(HTTPStatus.CONFLICT, "email-taken", detail, email=error.key)


def _unknown(email: str) -> ProblemAnswer:
    return ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", f"There is no user {email[:200]!r}")
