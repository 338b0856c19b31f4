"""The forms in which people write things, and the one in which we keep them."""

import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidField
from schemas.fields import Date, Email, FromSource, Money, Number, Phone, Text
from schemas.fields.number import decimal_mark
from schemas.fields.phone import COUNTRY_CODES_OF_TWO
from schemas.registry import dataset_named


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  Anna \t Maria\n", "Anna Maria"),
        ("e\u0301", "é"),
        (17, "17"),
        (Decimal("1.50"), "1.50"),
    ],
)
def test_text_is_trimmed_and_collapsed(written: object, kept: str) -> None:
    assert Text(20).normalize(written) == kept


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("x" * 21, "too_long"),
        ("a\x00b", "nul_character"),
        ("\udc80", "not_unicode"),
        (True, "wrong_type"),
        ([], "wrong_type"),
        pytest.param(10**5000, "too_long", id="a giant integer"),
    ],
)
def test_a_value_that_is_no_text_is_refused(written: object, code: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        Text(20).normalize(written)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Anna.Meyer@Example.COM ", "anna.meyer@example.com"),
        ("a+b_c'd@sub.example.co", "a+b_c'd@sub.example.co"),
        ("x@a.xn--p1ai", "x@a.xn--p1ai"),
        (f"{'l' * 64}@{'d' * 63}.com", f"{'l' * 64}@{'d' * 63}.com"),
    ],
)
def test_an_email_is_kept_in_lower_case(written: str, kept: str) -> None:
    assert Email().normalize(written) == kept


@pytest.mark.parametrize(
    "written",
    ["anna", "@example.com", "a@b", "a@@b.com", ".a@b.com", "a.@b.com", "a..b@c.com", "a b@c.com", "a@-b.com",
     "a@b-.com", "ä@b.com", "a@b..com", f"a@{'d' * 64}.com", "a@b.c", "a@b.com\n@c.de", 5, "a@b.com.",
     "a@b.com-", "a@b.-com", "a@b.--", f"{'l' * 65}@d.com"],
)  # fmt: skip
def test_what_is_no_email_is_refused(written: object) -> None:
    with pytest.raises(InvalidField) as refusal:
        Email().normalize(written)
    assert refusal.value.code == "email_form"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("+49 (30) 1234-567", "+49301234567"),
        ("0049 30 1234567", "+49301234567"),
        ("(+44) 20 7946 0958", "+442079460958"),
        ("+44 (0)20 7946 0958", "+442079460958"),
        ("0044 020 7946 0958", "+442079460958"),
        ("+4402079460958", "+442079460958"),
        ("+353 (0)1 234 5678", "+35312345678"),
        ("+36 (06) 1 234 5678", "+3612345678"),
        ("+39 06 6982 0000", "+390669820000"),  # in Italy the zero belongs to the number
        ("+1 (404) 555-0189", "+14045550189"),
    ],
)
def test_a_phone_number_is_kept_as_plus_and_digits(written: str, kept: str) -> None:
    assert Phone().normalize(written) == kept
    assert Phone(region="US").normalize(kept) == kept


@pytest.mark.parametrize(
    "written",
    [
        *(
            "4045550189.0",
            "4930123456.0",
            "12345",
            "+1" * 9,
            "1+5551234567",
            "call me",
            "555-CALL-NOW",
            "٠١٢٣٤٥٦٧٨",
            "()",
            1.5e300,
        ),
        *("+0049301234567", "+44 (0)1", "+1 404 555 0189 x123", "(404) 555-0189 ext. 7", "1-800-FLOWERS"),
    ],
)
@pytest.mark.parametrize("region", [None, "US"])
def test_what_is_no_phone_number_is_refused(written: object, region: str | None) -> None:
    with pytest.raises(InvalidField) as refusal:
        Phone(region=region).normalize(written)
    assert refusal.value.code == "phone_form"


@pytest.mark.parametrize(
    ("written", "region", "kept"),
    [
        ("(404) 555-0189", "US", "+14045550189"),
        ("1-404-555-0189", "US", "+14045550189"),
        (4045550189, "US", "+14045550189"),
        ("011 44 20 7946 0958", "US", "+442079460958"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("030/1234567", "DE", "+49301234567"),
        ("06 6982 0000", "IT", "+390669820000"),
        ("8 (495) 123-45-67", "RU", "+74951234567"),
    ],
)
def test_a_national_phone_number_is_read_in_its_region_and_refused_without_one(
    written: object, region: str, kept: str
) -> None:
    assert Phone(region=region).normalize(written) == kept
    with pytest.raises(InvalidField, match="`region`") as refusal:
        Phone().normalize(written)
    assert refusal.value.code == "ambiguous_phone"


@pytest.mark.parametrize("written", ["555-0189", "020 7946 0958"])
def test_a_phone_number_that_its_region_does_not_have_is_refused(written: str) -> None:
    with pytest.raises(InvalidField, match="in US") as refusal:
        Phone(region="US").normalize(written)
    assert refusal.value.code == "phone_form"


def test_an_unknown_region_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="'us' is no country"):
        Phone(region="us")


def test_the_country_codes_are_those_of_the_library() -> None:
    codes = {str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    assert {code for code in codes if len(code) == 2} == COUNTRY_CODES_OF_TWO
    assert {code for code in codes if len(code) == 1} == {"1", "7"}


@given(date=st.dates(min_value=datetime.date(1000, 1, 1)))
def test_a_date_in_any_common_form_is_that_date(date: datetime.date) -> None:
    year, month, day = date.year, date.month, date.day
    forms = [
        date.isoformat(),
        f"{date.isoformat()}T12:30:00Z",
        f"{date.isoformat()} 12:30",
        f"{year}/{month}/{day}",
        f"{year}{month:02}{day:02}",
        f"{day}.{month}.{year}",
        f"{day} {date:%b} {year}",
        f"{date:%B} {day}, {year}",
        f"{day:02}-{date:%b}-{year}",
        f"{date:%a, %d %b %Y} 12:30:00 +0200",
        f"{date:%A}, {date:%B} {day}, {year}",
    ]
    assert [Date().normalize(form) for form in forms] == [date.isoformat()] * len(forms)
    assert Date("month_first").normalize(f"{month}/{day}/{year}") == date.isoformat()
    assert Date("day_first").normalize(f"{day}/{month}/{year}") == date.isoformat()
    assert Date("day_first").normalize(f"{day:02}-{month:02}-{year}") == date.isoformat()


def test_slashes_are_read_the_only_possible_way_where_there_is_one() -> None:
    assert Date(slashes="month_first").normalize("31/1/2024") == "2024-01-31"
    assert Date(slashes="month_first").normalize("1/2/2024") == "2024-01-02"
    assert Date(slashes="day_first").normalize("1/2/2024") == "2024-02-01"
    assert Date(slashes="day_first").normalize("1/31/2024") == "2024-01-31"


@given(date=st.dates(min_value=datetime.date(1000, 1, 1)), separator=st.sampled_from("/-"))
def test_a_date_in_an_unknown_order_is_read_right_or_refused(date: datetime.date, separator: str) -> None:
    for written in (f"{date.month}{separator}{date.day}", f"{date.day}{separator}{date.month}"):
        try:
            kept = Date().normalize(f"{written}{separator}{date.year}")
        except InvalidField as refusal:
            kept = refusal.code
        ambiguous = max(date.day, date.month) <= 12 and date.day != date.month
        assert kept == ("ambiguous_date" if ambiguous else date.isoformat())


@pytest.mark.parametrize(
    "written",
    ["2024-01-31 to 2024-02-05", "2024-01-31 or so", "202411", "2024111", "20240131120000", "1706659200", "31.1.24",
     "1/31/24", "31 Janvier 2024", "31 Mayor 2024", "2024-01/31", "2024-01-31T"],
)  # fmt: skip
def test_what_is_nearly_a_date_is_refused_instead_of_guessed(written: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        Date().normalize(written)
    assert refusal.value.code == "date_form"


@pytest.mark.parametrize(
    "written",
    ["2024-01-31T23:59:59.123+02:00", "2024-01-31 11:59 PM", "2024-01-31T00:00:00Z", "2024-01-31 12:30 UTC",
     "Wed, 31 Jan 2024 12:30:00 EST", "Wed, 31 Jan 2024 12:30:00 +0000 (UTC)", "2024-01-31 12:30 CEST",
     "Wed, 31 Jan 2024 23:59:59 GMT", "Wednesday, 31 January 2024", "Jan. 31, 2024", "31-JAN-2024"],
)  # fmt: skip
def test_a_date_time_is_kept_as_the_date_that_is_written_in_it(written: str) -> None:
    assert Date().normalize(written) == "2024-01-31"


@pytest.mark.parametrize(
    "written", ["2023-02-29", "31.4.2024", "yesterday", "0000-01-01", "2024-13-01", "13/13/2024", "12"]
)
def test_what_is_no_date_is_refused(written: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        Date().normalize(written)
    assert refusal.value.code == "date_form"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1,234.5", "1234.50"),
        ("$ 12", "12.00"),
        ("1,234,567", "1234567.00"),
        ("1'234.50", "1234.50"),
        ("1\u00a0234.50", "1234.50"),
        ("1\u202f234\u202f567", "1234567.00"),
        ("-$5", "-5.00"),
        ("$-5", "-5.00"),
        ("12.50 €", "12.50"),
        ("(€1,234.50)", "-1234.50"),
        ("¥1,200", "1200.00"),
        ("(12.345)", "-12.34"),
        (0.1, "0.10"),
        (Decimal("1E+3"), "1000.00"),
        ("-0.001", "0.00"),
        ("9999999999999.99", "9999999999999.99"),
        ("1e-400000", "0.00"),
    ],
)
def test_money_is_kept_with_two_places(written: object, kept: str) -> None:
    assert Money(15, 2).normalize(written) == kept


@given(number=st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, places=6))
def test_money_is_rounded_exactly_whether_it_comes_as_number_or_text(number: Decimal) -> None:
    rounded = number.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN) + 0
    assert Decimal(str(Money().normalize(number))) == Decimal(str(Money().normalize(str(number)))) == rounded


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("12,34.5", "number_form"),
        ("1.234,56", "number_form"),
        ("1.234.567", "number_form"),
        ("12,5", "number_form"),
        ("0,123", "number_form"),
        ("-0,123", "number_form"),
        ("0,123,456", "number_form"),
        ("007,123.5", "number_form"),
        ("0 123", "number_form"),
        ("1,234 567", "number_form"),
        ("1 2", "number_form"),
        ("(-5)", "number_form"),
        ("$$5", "number_form"),
        ("$5€", "number_form"),
        ("--5", "number_form"),
        ("-$-5", "number_form"),
        ("5 %", "number_form"),
        ("5-", "number_form"),
        ("0x10", "number_form"),
        ("1_000", "number_form"),
        ("NaN", "number_form"),
        (float("inf"), "number_form"),
        ("٣", "number_form"),
        ("1" * 101, "number_form"),
        ("()", "number_form"),
        (True, "wrong_type"),
        ({}, "wrong_type"),
        ("10000000000000", "out_of_range"),
        ("9999999999999.999", "out_of_range"),
        pytest.param(10**5000, "out_of_range", id="a giant integer"),
        ("1e400000", "out_of_range"),
    ],
)
def test_what_is_no_money_is_refused(written: object, code: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        Money(15, 2).normalize(written)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1.234,56", "1234.56"),
        ("1234,5", "1234.50"),
        ("1.234", "1234.00"),
        ("-12,5 €", "-12.50"),
        ("7", "7.00"),
        (7, "7.00"),
    ],
)
def test_a_comma_is_the_decimal_mark_where_the_source_says_so(written: object, kept: str) -> None:
    assert Number(15, 2, decimal=",").normalize(written) == kept


@pytest.mark.parametrize("written", ["1,234.56", "12.5", "1,2,3", "0.123", "0.123.456"])
def test_a_decimal_point_is_refused_where_the_mark_is_a_comma(written: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        Number(15, 2, decimal=",").normalize(written)
    assert refusal.value.code == "number_form"


VALUE = next(field.type for field in dataset_named("records").fields if field.name == "value")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("47", "47.0000"),
        ("12.50", "12.5000"),
        ("0.1234567", "0.1234567"),
        ("1.2300000000", "1.2300"),
        ("-0", "0.0000"),
        ("0e-999999", "0.0000"),
        ("12345678901234567890", "12345678901234567890.0000"),
        (12345678901234567890, "12345678901234567890.0000"),
        (Decimal("6.123233995736766e-17"), "0.00000000000000006123233995736766"),
        (1e-7, "0.0000001"),
        ("(1,234.56789)", "-1234.56789"),
    ],
)
def test_the_value_field_of_records_keeps_all_its_digits(written: object, kept: str) -> None:
    assert VALUE.normalize(written) == kept
    assert VALUE.normalize(kept) == kept


@pytest.mark.parametrize(
    ("written", "code"),
    [("1e400", "out_of_range"), ("1e38", "out_of_range"), ("1e-400", "too_precise"), ("1e-999999999", "too_precise"),
     ("0." + "1" * 39, "too_precise")],
)  # fmt: skip
def test_a_value_that_cannot_be_kept_whole_is_refused_and_not_rounded(written: str, code: str) -> None:
    with pytest.raises(InvalidField) as refused:
        VALUE.normalize(written)
    assert refused.value.code == code


def test_a_number_below_its_minimum_is_refused() -> None:
    with pytest.raises(InvalidField) as refusal:
        Number(5, 0, minimum=Decimal(0)).normalize("-1")
    assert refusal.value.code == "out_of_range"


def test_a_source_name_must_not_contain_the_key_separator() -> None:
    with pytest.raises(InvalidField) as refusal:
        FromSource("name").normalize("a:b")
    assert refusal.value.code == "key_separator"


@pytest.mark.parametrize(
    ("written", "decimal", "number"),
    [
        ("1’234’567.50", ".", "1234567.50"),
        ("−5.5", ".", "-5.50"),
        ("−1’234,5", ",", "-1234.50"),
        ("−$5", ".", "-5.00"),
        ("−1.234.567", "unsure", "-1234567.00"),
    ],
)
def test_a_number_may_have_unicodes_own_signs(written: str, decimal: Any, number: str) -> None:
    assert Number(decimal=decimal).normalize(written) == number


@pytest.mark.parametrize("written", ["−1.234", "−1,234", "(−1.234)"])
def test_a_number_with_unicodes_minus_that_is_two_numbers_shows_no_decimal_mark(written: str) -> None:
    assert decimal_mark(written) is None


@pytest.mark.parametrize("written", ["5−", "−−5", "(−5)", "1’23", "’5", "−", "１２", "1٬234"])
def test_other_signs_and_figures_are_no_number(written: str) -> None:
    with pytest.raises(InvalidField, match="not a number"):
        Number().normalize(written)
