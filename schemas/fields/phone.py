"""The field type of telephone numbers.

National numbers, and international ones with a trunk zero, only a numbering plan can tell. `phonenumbers` knows the
plans. It takes 80 ms to import and tens of µs a number, so it is asked for these alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schemas.errors import InvalidField
from schemas.fields.field_type import LONGEST_NOTATION, Shortcut, TextColumn
from schemas.text import UNSEEN, tidy

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

_PHONE_PUNCTUATION = "+ ().-/"
_PUNCTUATION_BYTES = b" ().-/"
"""The same without the plus, which is there once."""


@dataclass(frozen=True)
class Phone(TextColumn):
    """A telephone number as digits with a leading `+` (E.164); a leading 00 says the same.

    A national number is one of `region`, a country as in ISO 3166. Where that is None no country is guessed: it is
    refused as `ambiguous_phone`. So are extensions and letters, as `phone_form`: there is no room for them.
    7 to 15 digits: E.164 allows 15 at most, and fewer than 7 is no subscriber's number.
    """

    personal = True

    search: bool = False
    region: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for no region."""
        if self.region is not None:
            check_region(self.region)

    def shortcut(self) -> Shortcut:
        return _plain_international

    def normalize(self, value: object) -> str | None:
        text = tidy(value, LONGEST_NOTATION, UNSEEN)
        if text is None:
            return None
        if text[0] == "+" and 8 <= len(text) <= 16 and (digits := text[1:]).isdigit() and digits.isascii():
            return text if is_plain(digits) else with_country_code(text, None)
        if text.endswith(".0") and text[:-2].isdigit():
            raise InvalidField(
                "phone_form",
                f"{text[:40]!r} is a telephone number that a program took for a decimal one: write it as text",
            )
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

    def sql_type(self) -> "TypeEngine[Any]":
        from sqlalchemy import VARCHAR

        return VARCHAR(20)


COUNTRY_CODES_OF_TWO = frozenset(
    str(code)
    for code in (20, 27, *range(30, 35), 36, 39, 40, 41, *range(43, 50), *range(51, 59), *range(60, 67), 81, 82, 84, 86,
                 *range(90, 96), 98)
)  # fmt: skip
"""The other country codes are 1 and 7, and codes of three digits."""

_CODE_LENGTH = {
    first + second: 0 if first == "0" else 1 if first in "17" else 2 if first + second in COUNTRY_CODES_OF_TWO else 3
    for first in "0123456789"
    for second in "0123456789"
}
"""Length of the country code by the first two digits; 0 where there is none."""

REMEMBERED = 4096
"""Numbers; a company's own comes with every second of its records."""


def _plain_international(value: object) -> str | None:
    if type(value) is str and value[:1] == "+" and len(value) <= LONGEST_NOTATION and value.isascii():
        digits = value[1:].encode().translate(None, _PUNCTUATION_BYTES).decode()
        if digits.isdigit() and 7 <= len(digits) <= 15 and is_plain(digits):
            return f"+{digits}"
    return None


def is_plain(digits: str) -> bool:
    """True if an international number has no zero behind its country code, so that its digits are its normal form.

    Elsewhere such a zero is for calls within the country (`+44 (0)20 …`), in Italy it belongs to the number. Pure.
    """
    return digits[_CODE_LENGTH[digits[:2]]] != "0"


@lru_cache(REMEMBERED)
def with_country_code(digits: str, region: str | None) -> str:
    """The number as `+` and digits, dialled as `digits` (which may begin with `+`) in a region. Pure.

    Raises InvalidField (`phone_form`) for what the plan has no number of that length for.
    """
    import phonenumbers  # here, since every command would pay the 80 ms

    try:
        number = phonenumbers.parse(digits, region)
        if phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE:
            kept = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            # A second zero behind the code, or more digits than E.164 has, would not be read as the same number again.
            if 8 <= len(kept) <= 16 and (kept == digits or is_plain(kept[1:]) or with_country_code(kept, None) == kept):
                return kept
    except phonenumbers.NumberParseException:
        pass
    raise InvalidField("phone_form", f"{digits!r} is not a telephone number{f' in {region}' if region else ''}")


def check_region(region: str) -> str:
    """The region itself. Raises ValueError for what is none that has a numbering plan."""
    import phonenumbers  # as above

    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"{region!r} is no country's two capitals (ISO 3166), such as US, GB or DE")
    return region
