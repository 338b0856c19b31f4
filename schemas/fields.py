"""Field types: each knows its normal form, its Postgres column and its Elasticsearch mapping.

A dataset's model names one per field: `email: Annotated[str, Email(max_length=255)]`. `normalize` is pure and on the
hot path (once per field and record): it returns the JSON-ready normal form, None for absent, or raises InvalidField.
Dates become ISO text, decimals become plain text with a fixed number of places, so no precision is lost in JSON.
"""

import datetime
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Protocol

from schemas.errors import InvalidField
from schemas.phone_numbers import check_region, is_plain, with_country_code
from schemas.text import tidy
from schemas.unicode_forms import UNSEEN

LONGEST_NOTATION = 100
"""Characters of a number, a date or a telephone number: no way to write one takes more."""


class FieldType(Protocol):
    """What a dataset needs to know of a field."""

    @property
    def search(self) -> bool:
        """Whether a search looks into it."""
        ...

    def normalize(self, value: object) -> str | int | None:
        """The normal form, JSON-ready; None for absent. Idempotent: normalizing a normal form returns it.

        Raises InvalidField.
        """
        ...

    def column(self) -> str:
        """The Postgres column type."""
        ...

    def mapping(self) -> dict[str, Any]:
        """The Elasticsearch field mapping."""
        ...


@dataclass(frozen=True)
class Text:
    """Text, trimmed, inner white space collapsed, Unicode NFC; at most `max_length` characters, unbounded if None."""

    max_length: int | None = None
    search: bool = False

    def normalize(self, value: object) -> str | None:
        text = tidy(value, self.max_length)
        if text is not None and self.max_length is not None and len(text) > self.max_length:
            raise InvalidField("too_long", f"{len(text)} characters, at most {self.max_length} fit")
        return text

    def column(self) -> str:
        return "TEXT" if self.max_length is None else f"VARCHAR({self.max_length})"

    def mapping(self) -> dict[str, Any]:
        # Beyond Lucene's limit of 32,766 bytes a term would refuse the document; the text field holds the whole value.
        exact = {"type": "keyword", "ignore_above": 1024}
        return {"type": "text", "fields": {"exact": exact}} if self.search else exact


# One expression instead of several checks, because it runs once per record: at most 64 characters before the @, no dot
# at either end of that part nor two in a row; labels of at most 63 characters.
_LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = re.compile(
    rf"(?=[^@]{{1,64}}@){_LOCAL}(?:\.{_LOCAL})*@(?:[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.)+[a-z0-9-]{{2,63}}"
)


@dataclass(frozen=True)
class Email:
    """An e-mail address in lower case. Its form is checked (HTML's rule plus a dotted domain), not that it exists."""

    max_length: int = 255
    search: bool = False

    def normalize(self, value: object) -> str | None:
        text = tidy(value, self.max_length, UNSEEN)
        if text is None:
            return None
        text = text.lower()
        if not _EMAIL.fullmatch(text):
            raise InvalidField("email_form", f"{text[:80]!r} is not an e-mail address")
        if len(text) > self.max_length:
            raise InvalidField("too_long", f"{len(text)} characters, at most {self.max_length} fit")
        return text

    def column(self) -> str:
        return f"VARCHAR({self.max_length})"

    def mapping(self) -> dict[str, Any]:
        exact = {"type": "keyword", "ignore_above": 1024}
        return {"type": "text", "fields": {"exact": exact}} if self.search else exact


_PHONE_PUNCTUATION = "+ ().-/"


@dataclass(frozen=True)
class Phone:
    """A telephone number as digits with a leading `+` (E.164); a leading 00 says the same.

    A national number is one of `region`, a country as in ISO 3166. Where that is None no country is guessed: it is
    refused as `ambiguous_phone`. So are extensions and letters, as `phone_form`: there is no room for them.
    7 to 15 digits: E.164 allows 15 at most, and fewer than 7 is no subscriber's number.
    """

    search: bool = False
    region: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for no region."""
        if self.region is not None:
            check_region(self.region)

    def normalize(self, value: object) -> str | None:
        text = tidy(value, LONGEST_NOTATION, UNSEEN)
        if text is None:
            return None
        if text[0] == "+" and 8 <= len(text) <= 16 and (digits := text[1:]).isdigit() and digits.isascii():
            return text if is_plain(digits) else with_country_code(text, None)
        digits = text
        for character in _PHONE_PUNCTUATION:  # half the time of a translation table or an expression
            digits = digits.replace(character, "")
        plus = text.rfind("+")
        if not (digits.isdigit() and digits.isascii()) or (plus > 0 and text[:plus].strip("( ")):
            raise InvalidField("phone_form", f"{text[:40]!r} is not a telephone number: digits, and + ( ) - . / only")
        international = plus >= 0
        if digits.startswith("00") and not international:
            digits, international = digits[2:], True
        if not 7 <= len(digits) <= 15:
            raise InvalidField("phone_form", f"{text[:40]!r} has {len(digits)} digits, expected 7 to 15")
        if international:
            return f"+{digits}" if is_plain(digits) else with_country_code(f"+{digits}", None)
        if self.region is None:
            raise InvalidField(
                "ambiguous_phone",
                f"{text[:40]!r} has no country code; set `region` in the source's block, or write + and the code",
            )
        return with_country_code(digits, self.region)

    def column(self) -> str:
        return "VARCHAR(20)"

    def mapping(self) -> dict[str, Any]:
        return {"type": "keyword"}


# After a date, a time of day is read over; anything else after it is no date.
_TIME = (
    r"(?:[T ][0-9]{1,2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?(?: ?[AaPp][Mm])?"
    r"(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?)?"
)
_YEAR_FIRST = re.compile(rf"([0-9]{{4}})(?:([-/.])([0-9]{{1,2}})\2([0-9]{{1,2}})|([0-9]{{2}})([0-9]{{2}})){_TIME}")
_YEAR_LAST = re.compile(rf"([0-9]{{1,2}})([-/.])([0-9]{{1,2}})\2([0-9]{{4}}){_TIME}")
_WEEKDAY = re.compile(r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?,? ", re.IGNORECASE)
_NAMED_MONTH = re.compile(
    rf"(?:([0-9]{{1,2}})[ -]([A-Z]{{3,9}})\.?,?[ -]|([A-Z]{{3,9}})\.? ([0-9]{{1,2}}),? )([0-9]{{4}}){_TIME}",
    re.IGNORECASE,
)
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
# English, whatever the machine's locale: strptime would follow that.
_MONTH_NUMBERS = {name[:length]: n for n, name in enumerate(_MONTHS, 1) for length in (3, len(name))} | {"sept": 9}


@dataclass(frozen=True)
class Date:
    """A calendar date as ISO text. Understood: 2024-01-31, 2024/1/31, 20240131, ISO and RFC 2822 date-times, 31.1.2024,
    31 Jan 2024, January 31, 2024. Of a date-time the date is kept as it is written, whatever the time zone.

    In 01/02/2024 and 01-02-2024 `slashes` decides which is the day, unless only one reading is possible; where it is
    None they are refused as `ambiguous_date`. Dotted forms are day first. Years have four digits.
    """

    slashes: Literal["day_first", "month_first"] | None = None
    search: bool = False

    def normalize(self, value: object) -> str | None:
        text = tidy(value, LONGEST_NOTATION, UNSEEN)
        if text is None:
            return None
        try:
            if len(text) == 10 and text[4] == "-" == text[7]:
                datetime.date.fromisoformat(text)
                return text
            return self._parse(text).isoformat()
        except InvalidField:
            raise
        except ValueError:
            raise InvalidField("date_form", f"{text[:40]!r} is not a date; expected e.g. 2024-01-31") from None

    def _parse(self, text: str) -> datetime.date:
        if match := _YEAR_FIRST.fullmatch(text):
            return datetime.date(int(match[1]), int(match[3] or match[5]), int(match[4] or match[6]))
        if match := _YEAR_LAST.fullmatch(text):
            return self._year_last(text, int(match[1]), int(match[3]), int(match[4]), match[2])
        if match := _NAMED_MONTH.fullmatch(_WEEKDAY.sub("", text, count=1)):
            month = _MONTH_NUMBERS.get((match[2] or match[3]).lower())
            if month is not None:
                return datetime.date(int(match[5]), month, int(match[1] or match[4]))
        raise ValueError(text)

    def _year_last(self, text: str, first: int, second: int, year: int, separator: str) -> datetime.date:
        order = "day_first" if separator == "." else self.slashes
        # One reading only: 31/1 and 1/31 can be nothing else, and 1/1 is the same either way.
        if first > 12 or second > 12 or first == second:
            order = "month_first" if second > 12 and separator != "." else "day_first"
        if order is None:
            raise InvalidField(
                "ambiguous_date",
                f"{text[:40]!r} is two dates, day or month first; set `dates` in the source's block",
            )
        month, day = (first, second) if order == "month_first" else (second, first)
        return datetime.date(year, month, day)

    def column(self) -> str:
        return "DATE"

    def mapping(self) -> dict[str, Any]:
        return {"type": "date", "format": "yyyy-MM-dd"}


_SIGNS = "$€£¥₹"
# Groups of three between commas, apostrophes or spaces (tidy has made them plain ones), the same throughout.
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:([,' ])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]*)?")
_SWAPPED = str.maketrans(",.", ".,")
_TWO_NUMBERS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")

Decimals = Literal[".", ",", "unsure", "unsure_comma"]
"""The decimal mark, or that nobody knows it: a number is then read the only way in which it can be meant. Of 1,234 and
1.234 there are two: `unsure` refuses both, `unsure_comma` the first only."""


def decimal_mark(text: str) -> str | None:
    """The decimal mark that a plain number must have; None where it has no mark, or one that may be either. Pure."""
    point, comma = text.rfind("."), text.rfind(",")
    if point == comma or _TWO_NUMBERS.fullmatch(text.strip(f" ()+-{_SIGNS}")):
        return None
    last, other = (".", ",") if point > comma else (",", ".")
    return other if text.count(last) > 1 else last  # 1.234.567: a mark that occurs twice makes groups


@dataclass(frozen=True)
class Number:
    """A decimal number with `places` places, rounded half even, at most `digits` digits in all; plain text in JSON.

    `exact` refuses what would have to be rounded. With `most_places` further places are kept, up to so many, and what
    has more is refused: nothing is rounded.
    A currency sign before or after it, thousands between commas, apostrophes or spaces, and accountants' parentheses
    for negatives are understood. In text the decimal mark is `decimal`; a number of JSON always has a point.
    Where that is unsure, what can be two numbers is refused as `ambiguous_number`.
    """

    digits: int = 15
    places: int = 2
    minimum: Decimal | None = None
    exact: bool = False
    most_places: int | None = None
    search: bool = False
    decimal: Decimals = "."

    def normalize(self, value: object) -> str | None:
        if value is None:
            return None
        if (plain := self._plain(value)) is not None:
            return plain
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

    def _plain(self, value: object) -> str | None:
        """The shortcut for `12`, `12.5` and `12.50`, most of what comes: no arithmetic. None means: look closer."""
        kind = type(value)
        if self.minimum is not None or self.decimal != "." or not (kind is str or kind is Decimal):
            return None
        text = str(value)
        whole, _, fraction = text.partition(".")
        if (
            not whole.isdigit()
            or (whole[0] == "0" and whole != "0")
            or len(whole) > self.digits - self.places
            or len(fraction) > self.places
            or (fraction and not fraction.isdigit())
            or not text.isascii()
        ):
            return None
        if len(fraction) == self.places:
            return text if fraction else whole
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

    def column(self) -> str:
        return f"NUMERIC({self.digits}, {self.places})" if self.most_places is None else "NUMERIC"

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


@dataclass(frozen=True)
class FromSource:
    """Text that the source gives where the record does not: its `kind` (api, csv, …) or its `name` in sources.toml."""

    part: Literal["kind", "name"]
    max_length: int = 100
    search: bool = False

    def normalize(self, value: object) -> str | None:
        text = tidy(value, self.max_length, UNSEEN)
        if text is not None and len(text) > self.max_length:
            raise InvalidField("too_long", f"{len(text)} characters, at most {self.max_length} fit")
        if text is not None and ":" in text:
            raise InvalidField("key_separator", f"{text[:40]!r} contains ':', which separates the parts of a key")
        return text

    def column(self) -> str:
        return f"VARCHAR({self.max_length})"

    def mapping(self) -> dict[str, Any]:
        return {"type": "keyword"}
