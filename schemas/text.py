"""Pure text normalizers shared by the field types."""

import unicodedata
from decimal import Decimal

from schemas.errors import InvalidField

MAX_NUMBER_BITS = 4096
"""Larger integers cost quadratic time to print, and Python refuses beyond 4300 digits."""


def tidy(value: object) -> str | None:
    """Trim, collapse runs of white space to one space, empty to None; numbers become their digits.

    Raises InvalidField (`wrong_type`, `too_long`, `nul_character`, `not_unicode`) for what is no text: containers,
    booleans, giant integers,
    NUL (Postgres cannot hold it) and lone surrogates (not encodable).
    """
    if value is None:
        return None
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise InvalidField("wrong_type", f"expected text, got {type(value).__name__}")
        if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
            raise InvalidField("too_long", f"an integer of {value.bit_length()} bits is no text")
        value = str(value)
    text = " ".join(value.split())
    if not text:
        return None
    if not text.isascii():
        text = _check_unicode(text)
    if "\x00" in text:
        raise InvalidField("nul_character", "text contains a NUL character, which Postgres cannot hold")
    return text


def fold(text: str) -> str:
    """Lower case without accents, for search: Müller → muller, Ærø → ærø (letters without a decomposition stay)."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def _check_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidField("not_unicode", f"text contains a lone surrogate at position {error.start}") from None
    return unicodedata.normalize("NFC", text)
