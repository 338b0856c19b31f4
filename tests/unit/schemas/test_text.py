"""The normal forms are Unicode's own, however many marks a letter has; a field's limit is one of composed text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidField
from schemas.fields import Date, Email, Phone, Text
from schemas.text import LAST_PLANE_WITH_MARKS, SHORT, composed, is_mark, without_marks

MARKS = [chr(code) for code in range(0x300, LAST_PLANE_WITH_MARKS + 1) if is_mark(chr(code), "NFKD")]
ROWS = st.tuples(
    st.sampled_from(["a", "\u00e9", "\u00fc", "\u304c", "\u1100", " ", ""]), st.text(st.sampled_from(MARKS))
)
TEXTS = st.lists(ROWS, max_size=8).map(lambda rows: "".join(letter + marks * 40 for letter, marks in rows))


@given(text=TEXTS)
def test_long_rows_of_marks_compose_as_unicode_says(text: str) -> None:
    text += "x" * SHORT
    assert composed(text) == unicodedata.normalize("NFC", text)


@given(text=TEXTS)
def test_marks_are_dropped_and_all_else_decomposes_as_unicode_says(text: str) -> None:
    text += "x" * SHORT
    kept = [character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character)]
    assert without_marks(text) == "".join(kept)


def test_unicode_has_no_marks_beyond_the_planes_that_are_searched() -> None:
    assert not any(is_mark(chr(code), "NFKD") for code in range(LAST_PLANE_WITH_MARKS + 1, 0x110000))


def test_half_a_million_marks_are_kept_where_any_length_fits() -> None:
    text = Text().normalize("a" + "\u0300\u0316" * 250_000)
    assert text is not None
    assert text.startswith("\u00e0\u0316\u0316")


@pytest.mark.parametrize("field_type", [Text(100), Email(), Phone(), Date()])
def test_half_a_million_marks_are_refused_as_too_long_where_length_is_limited(
    field_type: Text | Email | Phone | Date,
) -> None:
    with pytest.raises(InvalidField) as refusal:
        field_type.normalize("a" + "\u0300\u0316" * 250_000)
    assert refusal.value.code == "too_long"


def test_a_limit_counts_composed_characters() -> None:
    alpha_with_three_marks = "\u03b1\u0313\u0300\u0345"
    assert Text(100).normalize(alpha_with_three_marks * 100) == "\u1f82" * 100
    with pytest.raises(InvalidField, match="101 characters"):
        Text(100).normalize("e\u0301" * 101)
