"""Query parameters with their checks."""

import datetime
import re
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from schemas.errors import InvalidField
from schemas.text import tidy
from services.failures.actions import MOST_ID

MAX_LIMIT = 100

MAX_PAGE = 10**12
"""Far beyond any table, and a hundred times it still fits Postgres' BIGINT offset."""

MAX_TEXT = 200


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
AMOUNT = written_as(r"[0-9]{1,10}(\.[0-9]{1,2})?", "not_an_amount", "must be an amount such as 19.90")


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
        description="Go on after the record that the last answer ended with: its `next_cursor`; empty: from the start.",
    ),
]
OptionalTime = Annotated[datetime.datetime | None, AfterValidator(lambda value: value and in_utc(value))]
OptionalDate = Annotated[datetime.date | None, ISO_DATE]
OptionalAmount = Annotated[Decimal | None, AMOUNT]
AsSent = Annotated[str | None, AfterValidator(without_nul), Query(max_length=MAX_TEXT)]
OptionalText = Annotated[AsSent, AfterValidator(tidied)]
SearchText = Annotated[
    str, AfterValidator(without_nul), AfterValidator(tidied), AfterValidator(not_blank), Query(max_length=MAX_TEXT)
]
