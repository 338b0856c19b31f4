"""What holds of every field type, for every value that can come in."""

import re
import unicodedata
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import NUMERIC, VARCHAR

from schemas.errors import InvalidField
from schemas.fields import Date, Email, FieldType, FromSource, KeyText, Money, Number, Phone, Text, WholeNumber
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


COMMON = st.one_of(
    values,
    st.from_regex(r"[ \t]?[a-zA-Zäé\u0301 ]{0,8}[ \xa0]?[a-z]{0,5}", fullmatch=True),
    st.from_regex(r"\+?(00)?[0-9]{1,4}[ ().\-/+]{0,3}[0-9]{0,6}[ \-]?[0-9]{0,8}", fullmatch=True),
    st.from_regex(r"[0-9]{3,4}-[0-9]{2}-[0-9W]{2}", fullmatch=True),
    st.from_regex(r"[0-9]{1,16}\.?[0-9]{0,5}", fullmatch=True),
    st.from_regex(r" ?[a-zA-Z0-9.+_-]{1,66}@[a-zA-Z0-9.-]{1,66}", fullmatch=True),
    st.dates().map(str),
    st.emails(),
)
"""Most are written as sources write them, or nearly so."""


@every_field
@given(value=COMMON)
@example(value="+" + "-" * 500 + "49301234567")
@example(value="\u212a@x.example")
@example(value="a" * 64 + "@b.example")
@example(value="a" * 65 + "@b.example")
def test_a_shortcut_leads_where_the_whole_way_leads(field: FieldType, value: object) -> None:
    shortcut = field.shortcut()
    if shortcut is not None and (normal := shortcut(value)) is not None:
        assert repr(normal) == repr(field.normalize(value))


@pytest.mark.parametrize(
    ("field", "value"),
    [(Text(20), " Ada  Lovelace "), (Text(20), "Müller"), (KeyText(20), "CUST001"), (Email(40), "Ada@Example.org"),
     (Phone(), "+49 (30) 1234-567"), (Date(), "1980-01-31"), (Money(15, 2), "12.5"), (WholeNumber(), "17")],
    ids=repr,
)  # fmt: skip
def test_what_most_sources_write_takes_the_shortcut(field: FieldType, value: object) -> None:
    shortcut = field.shortcut()
    assert shortcut is not None
    assert shortcut(value) == field.normalize(value)


LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
ADDRESS = re.compile(
    rf"(?=[^@]{{1,64}}@){LOCAL}(?:\.{LOCAL})*@(?:[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.)+"
    r"[a-z0-9][a-z0-9-]{0,61}[a-z0-9]"
)
"""The same rule, plainly written."""


@given(
    text=st.text("ab.-@1", min_size=1, max_size=30)
    | st.from_regex(r"[a.-]{1,66}@([a-]{1,65}\.){1,3}[a-]{0,65}", fullmatch=True)
)
def test_an_address_is_what_the_plain_rule_says(text: str) -> None:
    try:
        assert Email(500).normalize(text) == text
        assert ADDRESS.fullmatch(text)
    except InvalidField:
        assert not ADDRESS.fullmatch(text)


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
