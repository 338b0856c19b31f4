"""Field types of numbers: decimals, which keep their digits, and counts, which are whole as they come."""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, get_args

from schemas.errors import InvalidField
from schemas.fields.field_type import LONGEST_NOTATION, FieldType, Shortcut
from schemas.text import UNSEEN, tidy

if TYPE_CHECKING:
    import pyarrow
    from sqlalchemy.types import TypeEngine

_SIGNS = "$€£¥₹"
# Groups of three between commas, apostrophes or spaces (tidy has made them plain ones), the same throughout. None
# stands behind a zero: 0,123 has a decimal comma, whatever the source says.
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:([,' ])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]*)?")
_SWAPPED = str.maketrans(",.", ".,")
_MINUS, _APOSTROPHE = "\u2212", "\u2019"
_TYPED = str.maketrans({_MINUS: "-", _APOSTROPHE: "'"})
"""Unicode's own signs as they are typed: programs write them by the customs of Switzerland, Sweden and others."""

_TWO_NUMBERS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")

Decimals = Literal[".", ",", "unsure", "unsure_comma"]
"""The decimal mark, or that nobody knows it: a number is then read the only way in which it can be meant. Of 1,234 and
1.234 there are two: `unsure` refuses both, `unsure_comma` the first only."""

MOST_DIGITS = 38
"""Digits of a decimal with a fixed number of places, in Parquet."""

MOST_STORED_DIGITS = 1000
"""Digits of Postgres' NUMERIC that may be asked for."""


def decimal_mark(text: str) -> str | None:
    """The decimal mark that a plain number must have; None where it has no mark, or one that may be either. Pure."""
    point, comma = text.rfind("."), text.rfind(",")
    if point == comma or _TWO_NUMBERS.fullmatch(text.strip(f" ()+-{_MINUS}{_SIGNS}")):
        return None
    last, other = (".", ",") if point > comma else (",", ".")
    return other if text.count(last) > 1 else last  # 1.234.567: a mark that occurs twice makes groups


@dataclass(frozen=True)
class Number(FieldType):
    """A decimal number with `places` places, rounded half even, at most `digits` digits in all; plain text in JSON.

    `exact` refuses what would have to be rounded. With `most_places` further places are kept, up to so many, and what
    has more is refused: nothing is rounded.
    A currency sign before or after it, thousands between commas, apostrophes or spaces, and accountants' parentheses
    for negatives are understood. In text the decimal mark is `decimal`; a number of JSON always has a point.
    Where that is unsure, what can be two numbers is refused as `ambiguous_number`.
    """

    python_types = (Decimal, float)
    json_type = "number"

    digits: int = 15
    places: int = 2
    minimum: Decimal | None = None
    exact: bool = False
    most_places: int | None = None
    search: bool = False
    decimal: Decimals = "."

    def __post_init__(self) -> None:
        """Raises ValueError for what no column or file holds, and for a minimum that is no number."""
        most = MOST_DIGITS if self.most_places is None else MOST_STORED_DIGITS
        if not (type(self.digits) is type(self.places) is int and 0 <= self.places <= self.digits and self.digits):
            raise ValueError(f"Number: of digits={self.digits!r} {self.places!r} cannot be places after the point")
        if self.digits > most:
            raise ValueError(f"Number: digits={self.digits} is more than {most}")
        if self.most_places is not None and not self.places <= self.most_places <= MOST_STORED_DIGITS:
            raise ValueError(f"Number: most_places={self.most_places} is not between {self.places} and {most}")
        if self.minimum is not None and not Decimal(self.minimum).is_finite():
            raise ValueError(f"Number: minimum={self.minimum} is no number")

    def shortcut(self) -> Shortcut | None:
        """For `12`, `12.5` and `12.50`: no arithmetic."""
        if self.minimum is not None or self.decimal != ".":
            return None
        longest, places = self.digits - self.places, self.places

        def read(value: object) -> str | None:
            if type(value) is not str:
                return None
            whole, _, fraction = value.partition(".")
            if whole.isdigit() and (not fraction or fraction.isdigit()) and value.isascii():
                missing = places - len(fraction)
                if missing >= 0 and len(whole) <= longest and (whole[0] != "0" or whole == "0"):
                    if not missing:
                        return value if places else whole
                    return f"{whole}.{fraction}{'0' * missing}"
            return None

        return read

    def normalize(self, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
            raise InvalidField("wrong_type", f"expected a number, got {type(value).__name__}")
        number = self._parse(value)
        if number is None:
            return None
        # NaN and the infinities have no place in a NUMERIC(p, s) column; adjusted() bounds the size before rounding.
        if not number.is_finite():
            raise InvalidField("number_form", f"{str(value)[:40]!r} is not a finite number")
        whole = self.digits - self.places
        if number and number.adjusted() >= whole:
            raise InvalidField("out_of_range", f"{str(value)[:40]!r} has more than {whole} digits before the point")
        if self.most_places is not None:
            return self._kept(number, self.most_places)
        rounded = round(number if number.adjusted() >= -self.places - 30 else Decimal(0), self.places)
        if rounded.adjusted() >= whole and rounded:
            raise InvalidField("out_of_range", f"{str(value)[:40]!r} has more than {whole} digits before the point")
        if self.exact and rounded != number:
            raise InvalidField("too_precise", f"{str(value)[:40]!r} has more than {self.places} places after the point")
        if self.minimum is not None and rounded < self.minimum:
            raise InvalidField("out_of_range", f"{str(value)[:40]!r} is less than {self.minimum}")
        return format(rounded if rounded else abs(rounded), "f")

    def _kept(self, number: Decimal, most: int) -> str:
        """The number with all its places, but no zeros beyond `places`."""
        exponent = number.as_tuple().exponent
        # Of a number that is written with an exponent the plain form may be endless.
        text = format(number, "f") if number and isinstance(exponent, int) and -exponent <= LONGEST_NOTATION else "0"
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        if len(fraction) > most or (number and text == "0"):
            raise InvalidField("too_precise", f"{str(number)[:40]!r} has more than {most} places after the point")
        if self.minimum is not None and number < self.minimum:
            raise InvalidField("out_of_range", f"{str(number)[:40]!r} is less than {self.minimum}")
        return f"{whole}.{fraction:0<{self.places}}"

    def _parse(self, value: int | float | Decimal | str) -> Decimal | None:
        if isinstance(value, Decimal):
            return value
        if isinstance(value, int):
            # Integers beyond any column would cost quadratic time to print.
            if value.bit_length() > 512:
                raise InvalidField("out_of_range", f"an integer of {value.bit_length()} bits")
            return Decimal(value)
        if isinstance(value, float):
            return Decimal(repr(value))
        text = tidy(value, LONGEST_NOTATION, UNSEEN)
        if text is None:
            return None
        if len(text) > LONGEST_NOTATION:
            raise InvalidField("number_form", f"{text[:40]!r}… is too long for a number")
        if not text.isascii():
            text = text.translate(_TYPED)
        negative = text[0] == "(" and text[-1] == ")"
        text = _without_currency(text[1:-1] if negative else text)
        if negative and text[:1] in {"+", "-"}:  # two signs at odds
            raise InvalidField("number_form", f"{value[:40]!r} is not a number")
        if self.decimal == "," or (self.decimal != "." and self._has_decimal_comma(text)):
            text = text.translate(_SWAPPED)
        if "," in text or "'" in text or " " in text:
            if not _THOUSANDS.fullmatch(text):
                raise InvalidField("number_form", f"{value[:40]!r} is not a number")
            text = text.replace(",", "").replace("'", "").replace(" ", "")
        if "_" in text or not text.isascii():
            raise InvalidField("number_form", f"{value[:40]!r} is not a number")
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise InvalidField("number_form", f"{value[:40]!r} is not a number") from None
        return -number if negative else number

    def _has_decimal_comma(self, text: str) -> bool:
        if _TWO_NUMBERS.fullmatch(text) and ("," in text or self.decimal == "unsure"):
            raise InvalidField(
                "ambiguous_number",
                f"{text!r} is two numbers, with thousands or with a decimal mark; set `decimal` in the source's block",
            )
        return decimal_mark(text) == ","

    def sql_type(self) -> "TypeEngine[Any]":
        from sqlalchemy import NUMERIC

        return NUMERIC(self.digits, self.places) if self.most_places is None else NUMERIC()

    def arrow_type(self) -> "pyarrow.DataType | None":
        import pyarrow

        return pyarrow.decimal128(self.digits, self.places) if self.most_places is None else None

    def mapping(self) -> dict[str, Any]:
        return {"type": "double"}


def _without_currency(text: str) -> str:
    """Without one currency sign, before or after the number; a minus may stand before the sign: -$5."""
    sign = text[:1] if text[:1] in {"-", "+"} else ""
    rest = text[len(sign) :].strip()
    if rest[:1] and rest[0] in _SIGNS:
        rest = rest[1:].lstrip()
    elif rest[:1] and rest[-1] in _SIGNS:
        rest = rest[:-1].rstrip()
    return f"{sign}{rest}"


def Money(digits: int = 15, places: int = 2) -> Number:  # noqa: N802 (reads as a type where it is used)
    """An amount of money: two places unless said otherwise."""
    return Number(digits=digits, places=places)


_WHOLE = {mark: Number(digits=19, places=0, exact=True, decimal=mark) for mark in get_args(Decimals)}


SMALLEST, LARGEST = -(2**31), 2**31 - 1
"""Whole numbers that the column holds, an INTEGER."""

LONGEST_PLAIN = 18
"""Digits of a whole number that are read without a closer look."""


@dataclass(frozen=True)
class WholeNumber(FieldType):
    """A whole number from `minimum` to `maximum`, a number in JSON too. `3.0` and `1,000` are whole, `2.5` is not."""

    python_types = (int,)
    json_type = "integer"

    minimum: int = 0
    maximum: int = LARGEST
    search: bool = False
    decimal: Decimals = "."

    def __post_init__(self) -> None:
        """Raises ValueError for bounds between which no number is, or which the column does not hold."""
        if not SMALLEST <= self.minimum <= self.maximum <= LARGEST:
            raise ValueError(
                f"WholeNumber: from minimum={self.minimum} to maximum={self.maximum} is not within "
                f"{SMALLEST} to {LARGEST}"
            )

    def shortcut(self) -> Shortcut:
        minimum, maximum = self.minimum, self.maximum

        def read(value: object) -> int | None:
            if type(value) is str and len(value) <= LONGEST_PLAIN and value.isdigit() and value.isascii():
                value = int(value)
            return value if type(value) is int and minimum <= value <= maximum else None

        return read

    def normalize(self, value: object) -> int | None:
        text = _WHOLE[self.decimal].normalize(value)
        if text is None:
            return None
        number = int(text)
        if not self.minimum <= number <= self.maximum:
            raise InvalidField("out_of_range", f"{text!r} is not between {self.minimum} and {self.maximum}")
        return number

    def sql_type(self) -> "TypeEngine[Any]":
        from sqlalchemy import INTEGER

        return INTEGER()

    def arrow_type(self) -> "pyarrow.DataType":
        import pyarrow

        return pyarrow.int32()

    def mapping(self) -> dict[str, Any]:
        return {"type": "integer"}
