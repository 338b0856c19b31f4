"""Telephone numbers that only a numbering plan can tell: national ones, and international ones with a trunk zero.

`phonenumbers` knows the plans. It takes 80 ms to import and tens of µs a number, so it is asked for these alone.
"""

from functools import lru_cache

from schemas.errors import InvalidField

COUNTRY_CODES_OF_TWO = frozenset(
    str(code)
    for code in (20, 27, *range(30, 35), 36, 39, 40, 41, *range(43, 50), *range(51, 59), *range(60, 67), 81, 82, 84, 86,
                 *range(90, 96), 98)
)  # fmt: skip
"""The other country codes are 1 and 7, and codes of three digits."""

REMEMBERED = 4096
"""Numbers; a company's own comes with every second of its records."""


def is_plain(digits: str) -> bool:
    """Whether an international number has no zero behind its country code, so that its digits are its normal form.

    Elsewhere such a zero is for calls within the country (`+44 (0)20 …`), in Italy it belongs to the number. Pure.
    """
    first = digits[0]
    return first != "0" and digits[1 if first in "17" else 2 if digits[:2] in COUNTRY_CODES_OF_TWO else 3] != "0"


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
