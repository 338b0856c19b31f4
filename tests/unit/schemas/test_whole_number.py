"""Counts: whole numbers that are never rounded."""

from decimal import Decimal

import pytest
from hypothesis import given

from schemas.errors import InvalidField
from schemas.fields import Number, WholeNumber
from tests.unit.schemas.json_values import values

PIECES = WholeNumber(minimum=1)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("3", 3),
        (3, 3),
        (3.0, 3),
        ("3.0", 3),
        (" 1,000 ", 1000),
        (Decimal(7), 7),
        ("", None),
        (None, None),
        ("  ", None),
    ],
)
def test_a_whole_number_is_a_number(written: object, kept: int | None) -> None:
    assert PIECES.normalize(written) == kept


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("2.5", "too_precise"), (0.1, "too_precise"), ("1e-40", "too_precise"),
        (0, "out_of_range"), ("-1", "out_of_range"), (2_147_483_648, "out_of_range"), ("1e18", "out_of_range"),
        ("1e30", "out_of_range"), ("two", "number_form"), ("NaN", "number_form"),
        (True, "wrong_type"), ([], "wrong_type"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_whole_number_in_range_is_refused(written: object, code: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        PIECES.normalize(written)
    assert refusal.value.code == code


@given(value=values)
def test_any_value_is_a_whole_number_in_range_or_refused(value: object) -> None:
    try:
        number = PIECES.normalize(value)
    except InvalidField:
        return
    assert number is None or 1 <= number <= PIECES.maximum
    assert PIECES.normalize(number) == number


@pytest.mark.parametrize("written", ["9.999", 9.999, "0.001", Decimal("1e-50")])
def test_an_exact_number_is_not_rounded(written: object) -> None:
    with pytest.raises(InvalidField) as refusal:
        Number(12, 2, minimum=Decimal(0), exact=True).normalize(written)
    assert refusal.value.code == "too_precise"


@pytest.mark.parametrize(("written", "kept"), [("9.990", "9.99"), (9.5, "9.50"), ("9", "9.00"), ("0", "0.00")])
def test_a_number_that_loses_no_digit_counts_as_exact(written: object, kept: str) -> None:
    assert Number(12, 2, minimum=Decimal(0), exact=True).normalize(written) == kept
