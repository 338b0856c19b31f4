"""What holds of every field type, for every value that can come in."""

import unicodedata
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from sqlalchemy import NUMERIC, VARCHAR

from schemas.errors import InvalidField
from schemas.fields import Date, Email, FieldType, FromSource, KeyText, Money, Number, Phone, Text
from schemas.text import fold, tidy
from tests.unit.schemas.json_values import texts, values

FIELDS = [
    Text(),
    Text(20, search=True),
    KeyText(),
    KeyText(20),
    KeyText(5),
    Email(40),
    Phone(),
    Date(),
    Date(slashes="day_first"),
    Money(15, 2),
    Number(20, 4),
    Number(42, 4, most_places=38),
    Number(5, 0, minimum=Decimal(0)),
    Number(12, 2, minimum=Decimal(0), exact=True),
    FromSource("kind"),
    FromSource("name", max_length=10),
]

every_field = pytest.mark.parametrize("field", FIELDS, ids=repr)


def normal_form(field: FieldType, value: object) -> str | int | None:
    """The normal form, or None where there is none; any other exception than InvalidField fails the test."""
    try:
        return field.normalize(value)
    except InvalidField as problem:
        msgspec.json.encode([problem.code, problem.message])  # lone surrogates would fail here
        return None


@every_field
@given(value=values)
def test_any_value_is_normalized_or_refused_with_a_code(field: FieldType, value: object) -> None:
    assert isinstance(normal_form(field, value), str | None)


@every_field
@given(value=values)
def test_normalizing_a_normal_form_changes_nothing(field: FieldType, value: object) -> None:
    normal = normal_form(field, value)
    assert field.normalize(normal) == normal


@every_field
@given(value=values)
def test_a_normal_form_fits_its_column_and_every_store(field: FieldType, value: object) -> None:
    normal = normal_form(field, value)
    if normal is None:
        return
    assert isinstance(normal, str)
    assert normal == normal.strip() != ""
    assert "\x00" not in normal
    assert unicodedata.is_normalized("NFC", normal)
    normal.encode()
    column = field.sql_type()
    if isinstance(column, VARCHAR) and column.length is not None:
        assert len(normal) <= column.length
    if isinstance(column, NUMERIC) and column.precision is not None and column.scale is not None:
        assert abs(Decimal(normal)) < Decimal(10) ** (column.precision - column.scale)
        assert -Decimal(normal).as_tuple().exponent == column.scale  # type: ignore[operator]


@every_field
@pytest.mark.parametrize("absent", [None, "", " ", "\t\n\u00a0\u3000"])
def test_nothing_and_white_space_are_absent(field: FieldType, absent: str | None) -> None:
    assert field.normalize(absent) is None


@given(text=texts)
@example(text="a\u0301")
def test_tidying_leaves_single_spaces_only(text: str) -> None:
    try:
        tidied = tidy(text)
    except InvalidField:
        return
    assert tidied is None or tidied.split(" ") == tidied.split()


@given(text=texts)
def test_folding_never_fails_and_is_stable(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(("text", "folded"), [("Müller", "muller"), ("ÉCOLE", "ecole"), ("plain", "plain")])
def test_folding_drops_case_and_accents(text: str, folded: str) -> None:
    assert fold(text) == folded
