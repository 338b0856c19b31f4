"""Query parameters with their checks; a parameter that an endpoint does not have is refused, not ignored."""

import datetime
import re
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, get_origin

from fastapi import Query, Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query as QueryInfo
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.datastructures import QueryParams

from api.access import GuardedRoute
from api.problems import ProblemAnswer
from schemas.errors import InvalidField
from schemas.text import tidy
from services.failures.actions import MOST_ID

MAX_LIMIT = 100

MAX_PAGE = 10**12
"""Far beyond any table, and a hundred times it still fits Postgres' BIGINT offset."""

MAX_TEXT = 200

MOST_NAMED = 5
"""Wrong parameters in one answer; the rest is told by their number."""

LONGEST_NAME = 80


def written_as(pattern: str, code: str, message: str) -> BeforeValidator:
    """Refuses text in another form, which Pydantic would take: `1.0`, ` 1 ` or `1_000` for 1, seconds for a date."""
    form = re.compile(pattern)

    def check(value: Any) -> Any:
        if isinstance(value, str) and not form.fullmatch(value):
            raise PydanticCustomError(code, message)
        return value

    return BeforeValidator(check)


DIGITS = written_as(r"-?[0-9]+", "not_an_integer", "must be an integer")
ISO_DATE = written_as(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "not_a_date", "must be a date such as 2024-01-31")
_AMOUNT = r"[0-9]{1,10}(\.[0-9]{1,2})?"
AMOUNT = written_as(_AMOUNT, "not_an_amount", "must be an amount such as 19.90")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].+)?")


def a_written_time(value: Any) -> Any:
    """Refuses numbers, which Pydantic would take for seconds or for milliseconds, by their size."""
    if value is not None and not (isinstance(value, str) and _TIME.fullmatch(value)):
        raise PydanticCustomError("not_a_time", "must be a time such as 2024-01-31T08:30:00Z, or a date")
    return value


def in_utc(value: datetime.datetime) -> datetime.datetime:
    """Postgres and its driver take times as UTC, where the first and the last year end earlier than elsewhere."""
    try:
        return value.astimezone(datetime.UTC)
    except (OverflowError, ValueError):
        raise PydanticCustomError("time_out_of_range", "must lie in the years 1 to 9999 in UTC") from None


def without_nul(value: str | None) -> str | None:
    """Postgres holds no NUL character and refuses a statement with one."""
    if value is not None and "\x00" in value:
        raise PydanticCustomError("nul_character", "must not contain a NUL character")
    return value


def tidied(value: str | None) -> str | None:
    """As text is stored, so that it is found in the form in which it was sent; None for blanks."""
    try:
        return tidy(value)
    except InvalidField as error:
        raise PydanticCustomError("invalid_text", "{problem}", {"problem": error.message}) from None


def not_blank(value: str | None) -> str:
    """A search for nothing is a mistake."""
    if value is None:
        raise PydanticCustomError("blank", "must not be blank")
    return value


# The bounds are those of the number itself, so that they are `minimum` and `maximum` in the OpenAPI document.
Id = Annotated[int, Field(ge=1, le=MOST_ID), DIGITS]
_PageNumber = Annotated[int, Field(ge=1, le=MAX_PAGE), DIGITS]
_PageSize = Annotated[int, Field(ge=1, le=MAX_LIMIT), DIGITS]

Page = Annotated[_PageNumber, Query(description="Which page, counted from 1.")]
OptionalPage = Annotated[_PageNumber | None, Query(description="Which page, counted from 1 (the default).")]
Limit = Annotated[_PageSize, Query(description="Records per page.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=2000,
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]*$"},
        description="Go on after the record that the last answer ended with: its `next_cursor`; empty: from the start.",
    ),
]
OptionalTime = Annotated[
    datetime.datetime | None, BeforeValidator(a_written_time), AfterValidator(lambda value: value and in_utc(value))
]
OptionalDate = Annotated[datetime.date | None, ISO_DATE]
OptionalAmount = Annotated[Decimal | None, AMOUNT, WithJsonSchema({"type": "string", "pattern": f"^{_AMOUNT}$"})]
AsSent = Annotated[str | None, AfterValidator(without_nul), Query(max_length=MAX_TEXT)]
OptionalText = Annotated[AsSent, AfterValidator(tidied)]
SearchText = Annotated[
    str, AfterValidator(without_nul), AfterValidator(tidied), AfterValidator(not_blank), Query(max_length=MAX_TEXT)
]


class StrictRoute(GuardedRoute):
    """Answers 400 to a name that the endpoint does not know, and to a value that is given twice where one counts.

    A filter that is ignored gives a wrong answer. Not a dependency: solving one takes longer than the check.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = _known_parameters(self)

        async def handle_known(request: Request) -> Response:
            if request.scope["query_string"]:
                _refuse_unknown(request.query_params, known)
            return await handle(request)

        return handle_known


def _refuse_unknown(given: QueryParams, known: Mapping[str, bool]) -> None:
    wrong = {name: "there is no such parameter" for name in given if name not in known}
    if len(given.multi_items()) > len(given):
        repeated = {name for name in given if known.get(name) is False and len(given.getlist(name)) > 1}
        wrong |= dict.fromkeys(sorted(repeated), "given more than once")
    if wrong:
        errors = [{"parameter": name[:LONGEST_NAME], "message": wrong[name]} for name in list(wrong)[:MOST_NAMED]]
        told = "; ".join(f"{error['parameter']!r}: {error['message']}" for error in errors)
        more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        there_is = f"known here: {', '.join(sorted(known))}" if known else "no parameters are known here"
        detail = f"{told}{more} ({there_is})"
        raise ProblemAnswer(HTTPStatus.BAD_REQUEST, "unknown-parameter", detail, errors=errors, known=sorted(known))


def _known_parameters(route: APIRoute) -> dict[str, bool]:
    """Query parameters of a route and its dependencies; True for those that take several values."""
    return {
        field.alias: get_origin(field.field_info.annotation) in (list, set, frozenset, tuple)
        for field in get_flat_params(route.dependant)
        if isinstance(field.field_info, QueryInfo)
    }
