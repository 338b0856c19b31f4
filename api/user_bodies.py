"""What callers send about a user, brought into normal form by the dataset's own field types."""

from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from schemas.errors import InvalidField
from schemas.registry import dataset_named

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
Name = Annotated[str, Field(strict=True, examples=["Ada Lovelace"]), AfterValidator(partial(in_normal_form, "name"))]
Address = Annotated[
    str, Field(strict=True, examples=["ada@example.org"]), AfterValidator(partial(in_normal_form, "email"))
]
Role = Annotated[str, Field(strict=True, examples=["admin"]), AfterValidator(partial(in_normal_form, "role"))]


class NewUser(BaseModel):
    """All three are needed. Text is trimmed, the address put in lower case."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    email: Address
    role: Role


class UserChanges(BaseModel):
    """What is to change; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    # Never used, since only what was sent is looked at; a default of None would let null pass for a name.
    name: Name = Field(default_factory=str)
    email: Address = Field(default_factory=str)
    role: Role = Field(default_factory=str)
