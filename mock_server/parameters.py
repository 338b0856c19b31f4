"""Query parameters and bodies that the mock server takes, each with its check."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

MAX_LIMIT = 100


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
