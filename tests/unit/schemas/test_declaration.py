"""What a declaration says is honoured, or the declaration is refused."""

import datetime
from collections.abc import Callable
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
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)

from schemas.dataset import Dataset
from schemas.declaration import UnheededDeclaration
from schemas.errors import BrokenDataset
from schemas.fields import Date, Email, FromSource, Number, Text, WholeNumber
from schemas.registry import all_datasets, at_odds
from services.reprocessing.forecast import _comparison
from sinks.postgres.statements import staged_columns
from stores.tables import dataset_table

Name = Annotated[str, Text(100)]


def declare(model: type[BaseModel], **arguments: Any) -> Dataset:
    given: dict[str, Any] = {"name": "goods", "model": model, "key": ("name",), "table": "goods"}
    return Dataset(**given | arguments)


def good(annotation: Any, default: Any = ...) -> type[BaseModel]:
    """A model with a name and one more field."""
    body = {"__annotations__": {"name": Name, "size": annotation}}
    return type("Good", (BaseModel,), body | ({} if default is ... else {"size": default}))


class Good(BaseModel):
    name: Name


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


@pytest.mark.parametrize("name", ["ctid", "xmin", "tableoid", "x" * 64, "ü" * 32])
def test_a_field_does_not_take_a_name_that_postgres_has_for_itself_or_would_cut(name: str) -> None:
    with pytest.raises(UnheededDeclaration, match=f"\n  {name}: "):
        declare(create_model("Named", name=(Name, ...), **{name: (Name, ...)}))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "name", ["", "Goods", "käse", "a b", "a.b", "a/b", "a:b", 'a"b', "1", "_a", "customers-v1", "x" * 101]
)
def test_a_dataset_has_a_name_that_is_one_of_topics_indices_and_addresses(name: str) -> None:
    with pytest.raises(UnheededDeclaration, match=r"name: .* is to be small ASCII"):
        declare(Good, name=name)


@pytest.mark.parametrize(
    "table", ["", "Goods", "käse", "a b", "a.b", "a-b", 'a"b', "pg_class", "stage_goods", "x" * 51]
)
def test_a_table_has_a_name_that_leaves_room_for_those_of_its_indexes(table: str) -> None:
    with pytest.raises(UnheededDeclaration, match=r"table: .* is to be small ASCII"):
        declare(Good, table=table)


def test_names_with_the_comma_forgotten_are_told_as_what_they_are() -> None:
    with pytest.raises(UnheededDeclaration) as caught:
        declare(Good, key="name")
    assert str(caught.value).splitlines()[1:] == ["  key: 'name' is one text; write ('name',)"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"key": ("name", "name")}, "name: key names it twice"),
        ({"indexed": ("name", "name")}, "name: indexed names it twice"),
        ({"written_by": "API"}, "written_by: 'API' is none of pipeline, api"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UnheededDeclaration, match=told):
        declare(Good, **arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Text(0),
        lambda: Text(10_485_761),
        lambda: Text("5"),  # type: ignore[arg-type]
        lambda: Email(-1),
        lambda: FromSource("kind", 0),
        lambda: Number(0, 0),
        lambda: Number(5, 6),
        lambda: Number(5, -1),
        lambda: Number(39, 2),
        lambda: Number(10, 4, most_places=3),
        lambda: Number(minimum=Decimal("NaN")),
        lambda: WholeNumber(minimum=2, maximum=1),
        lambda: WholeNumber(maximum=2**31),
        lambda: WholeNumber(minimum=-(2**31) - 1),
    ],
)
def test_a_field_type_that_no_column_or_file_could_hold_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^(Text|Email|FromSource|Number|WholeNumber): "):
        make()


def test_fields_may_have_the_names_that_our_own_sql_gives_to_columns() -> None:
    words = ("ordinal", "number", "outcome", "wins", "merged", "key", "t", "s", "own", "excluded", "select", "order")
    named: Any = dict.fromkeys(words, (Name, ...))
    dataset = declare(create_model("Words", **named), key=("number",), unique=("ordinal",))
    columns = staged_columns(dataset)
    assert len(set(columns)) == len(columns)
    assert set(words) <= set(columns)
    assert "AS d (_number, " in _comparison(dataset)


def test_titles_and_descriptions_may_be_declared() -> None:
    class Documented(BaseModel):
        model_config = ConfigDict(title="A good")
        name: Annotated[str, Text(100), Field(description="What it is called.", examples=["Pen"])]
        size: Annotated[int | None, WholeNumber()] = Field(None, title="How large")
        price: Annotated[Decimal, Number()] = "1.50"  # type: ignore[assignment]

    assert [field.default for field in declare(Documented).fields] == [None, None, "1.50"]


def test_every_dataset_of_ours_is_declared_without_a_mistake() -> None:
    assert all_datasets()


def test_datasets_that_do_not_go_together_are_told() -> None:
    goods = declare(Good)
    assert not at_odds([goods, declare(Good, name="parts", table="parts", about={"name": "goods"})])
    assert at_odds([goods, declare(Good, table="parts")]) == ["2 datasets have the name 'goods'; rename one"]
    assert at_odds([goods, declare(Good, name="parts")]) == ["2 datasets have the table 'goods'; rename one"]
    assert at_odds([declare(Good, about={"name": "good"})]) == [
        "dataset 'goods': name is about 'good', and there is no such dataset: goods"
    ]


def test_a_dataset_does_not_take_the_table_of_something_else() -> None:
    with pytest.raises(BrokenDataset, match="dataset 'goods': the table coverage is another one of ours; rename it"):
        dataset_table(declare(Good, table="coverage"))
