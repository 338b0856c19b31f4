"""What a declaration says is honoured, or the declaration is refused."""

import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt, Le, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    Strict,
    StringConstraints,
    computed_field,
    conint,
    field_serializer,
    field_validator,
    model_validator,
)

from schemas.dataset import Dataset
from schemas.declaration import UnheededDeclaration
from schemas.fields import Date, Number, Text, WholeNumber
from schemas.registry import all_datasets

Name = Annotated[str, Text(100)]


def declare(model: type[BaseModel], **arguments: Any) -> Dataset:
    given: dict[str, Any] = {"name": "goods", "model": model, "key": ("name",), "table": "goods"}
    return Dataset(**given | arguments)


def good(annotation: Any, default: Any = ...) -> type[BaseModel]:
    """A model with a name and one more field."""
    body = {"__annotations__": {"name": Name, "size": annotation}}
    return type("Good", (BaseModel,), body | ({} if default is ... else {"size": default}))


class Size(StrEnum):
    SMALL = "S"


def lower(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (Annotated[int, WholeNumber(), Gt(0)], ...),
        (Annotated[int, WholeNumber(), Field(gt=0)], ...),
        (Annotated[int, WholeNumber()], Field(gt=0)),
        (Annotated[int, WholeNumber()], Field(multiple_of=5)),
        (Annotated[Decimal, Number(), Le(5)], ...),
        (Annotated[Decimal, Number()], Field(decimal_places=1)),
        (Annotated[str, Text(50), MinLen(3)], ...),
        (Annotated[str, Text(50)], Field(max_length=5)),
        (Annotated[str, Text(50)], Field(pattern="^a")),
        (Annotated[str, Text(50)], Field(strict=True)),
        (Annotated[str, Text(50), StringConstraints(to_upper=True)], ...),
        (Annotated[str, Strict(), Text(50)], ...),
        (Annotated[str, BeforeValidator(lower), Text(50)], ...),
        (Annotated[str, Text(50), AfterValidator(lower)], ...),
        (Annotated[str, Text(50), PlainSerializer(lower)], ...),
        (Annotated[str, Text(50)], Field(alias="Size")),
        (Annotated[str, Text(50)], Field(validation_alias="Size")),
        (Annotated[str, Text(50)], Field(serialization_alias="Size")),
        (Annotated[str, Text(50)], Field(default_factory=str)),
        (Annotated[str | None, Text(50)], Field(None, exclude=True)),
        (Annotated[str | None, Text(50)], Field(None, frozen=True)),
        (Annotated[str | None, Text(50)], Field(None, validate_default=True)),
        (Annotated[str | None, Text(50)], Field(None, json_schema_extra={"minLength": 1})),
        (Annotated[Literal["S", "M"], Text(50)], ...),
        (Annotated[Annotated[str, MinLen(3)] | None, Text(50)], None),
        (Annotated[conint(gt=3), WholeNumber()], ...),
        (Annotated[Size, Text(50)], ...),
        (Annotated[int, Text(50)], ...),
        (Annotated[str, WholeNumber()], ...),
        (Annotated[datetime.datetime, Date()], ...),
        (Annotated[str | int, Text(50)], ...),
        (Annotated[list[str], Text(50)], ...),
        (Annotated[Any, Text(50)], ...),
        (Annotated[int, WholeNumber(maximum=9)], 10),
        (Annotated[Decimal, Number()], Decimal(1)),
        (Annotated[datetime.date, Date()], datetime.date(2024, 1, 31)),
        (Annotated[str, Text(2)], "long"),
        (Annotated[str, Text(2)], " "),
        (str, ...),
        (Annotated[str, Text(), Text(5)], ...),
    ],
)
def test_a_declaration_of_a_field_that_would_be_ignored_is_refused(annotation: Any, default: Any) -> None:
    with pytest.raises(UnheededDeclaration, match=r"dataset 'goods' \(Good\)(.|\n)*\n  size: ") as caught:
        declare(good(annotation, default))
    assert all(line.startswith("  size: ") for line in str(caught.value).splitlines()[1:])


class Checked(BaseModel):
    name: Name

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        return value


class CheckedWhole(BaseModel):
    name: Name

    @model_validator(mode="after")
    def _whole(self) -> "CheckedWhole":
        return self


class Computed(BaseModel):
    name: Name

    @computed_field  # type: ignore[prop-decorator]
    @property
    def _size(self) -> int:
        return 1


class Serialized(BaseModel):
    name: Name

    @field_serializer("name")
    def _shown(self, value: str) -> str:
        return value


class Hooked(BaseModel):
    name: Name

    def model_post_init(self, _context: Any, /) -> None:
        return None


class Private(BaseModel):
    name: Name
    _size: int = PrivateAttr(1)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


class Stripped(BaseModel):
    model_config = ConfigDict(str_to_upper=True, strict=True)
    name: Name


class Inherited(Checked):
    pass


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Checked, "_short: field_validator"),
        (CheckedWhole, "_whole: model_validator"),
        (Computed, "_size: computed_field"),
        (Serialized, "_shown: field_serializer"),
        (Hooked, "model_post_init"),
        (Private, "_size: a private attribute"),
        (Closed, "extra='forbid'"),
        (Stripped, "strict=True"),
        (Inherited, "_short: field_validator"),
    ],
)
def test_a_declaration_of_a_model_that_would_be_ignored_is_refused(model: type[BaseModel], named: str) -> None:
    with pytest.raises(UnheededDeclaration, match=r"is not honoured; ") as caught:
        declare(model)
    assert named in str(caught.value)


def test_all_mistakes_of_a_declaration_are_told_at_once() -> None:
    with pytest.raises(UnheededDeclaration) as caught:
        declare(good(Annotated[int, WholeNumber(), Gt(0), Le(9)], 10**10), unique=("colour",))
    assert str(caught.value).count("\n") == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"key": ("id",)}, "id: key names it"),
        ({"key": ()}, "the key is empty"),
        ({"key": ("size",)}, "size: it may be absent, and is part of the key"),
        ({"unique": ("colour",)}, "colour: unique names it"),
        ({"indexed": ("colour",)}, "colour: indexed names it"),
    ],
)
def test_key_unique_and_indexed_must_name_fields_of_the_model(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UnheededDeclaration, match=named):
        declare(good(Annotated[str | None, Text(5)], None), **arguments)


def test_a_key_that_is_no_text_is_refused_since_keys_are_compared_and_sorted_as_text() -> None:
    with pytest.raises(UnheededDeclaration, match="size: it is part of the key, which is text, and WholeNumber is not"):
        declare(good(Annotated[int, WholeNumber()]), key=("name", "size"))


def test_a_field_does_not_take_the_name_of_a_column_that_every_table_has() -> None:
    class Versioned(BaseModel):
        name: Name
        version: Name

    with pytest.raises(UnheededDeclaration, match="version: the table has a column of that name"):
        declare(Versioned)


def test_titles_and_descriptions_may_be_declared() -> None:
    class Documented(BaseModel):
        model_config = ConfigDict(title="A good")
        name: Annotated[str, Text(100), Field(description="What it is called.", examples=["Pen"])]
        size: Annotated[int | None, WholeNumber()] = Field(None, title="How large")
        price: Annotated[Decimal, Number()] = "1.50"  # type: ignore[assignment]

    assert [field.default for field in declare(Documented).fields] == [None, None, "1.50"]


def test_every_dataset_of_ours_is_declared_without_a_mistake() -> None:
    assert all_datasets()
