"""Pure text normalizers shared by the field types."""

from decimal import Decimal
from re import Pattern

from schemas.errors import InvalidField
from schemas.unicode_forms import composed, without_marks

MAX_NUMBER_BITS = 4096
"""Larger integers cost quadratic time to print, and Python refuses beyond 4300 digits."""


LONGEST_DECOMPOSITION = 4
"""Characters that become one in Unicode NFC, at most."""


def tidy(value: object, longest: int | None = None, without: Pattern[str] | None = None) -> str | None:
    """Trim, collapse runs of white space to one space, compose to Unicode NFC, empty to None; numbers become digits.

    `without` are characters that do not count: UNSEEN in keys, numbers and the like. Text keeps all: Persian needs its
    joiners.

    Takes time in proportion to the text. `longest` is how many characters the caller takes: a text of which as many
    cannot remain is refused before it costs more; the exact length is for the caller to check.
    Raises InvalidField (`wrong_type`, `too_long`, `nul_character`, `not_unicode`) for what is no text: containers,
    booleans, giant integers, NUL (Postgres cannot hold it) and lone surrogates (not encodable).
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
    if longest is not None and len(text) > longest * LONGEST_DECOMPOSITION:
        raise InvalidField("too_long", f"{len(text)} characters, at most {longest} fit")
    if not text.isascii():
        _check_unicode(text)
        if without is not None:
            text = " ".join(without.sub("", text).split())
            if not text:
                return None
        text = composed(text)
    if "\x00" in text:
        raise InvalidField("nul_character", "text contains a NUL character, which Postgres cannot hold")
    return text


def fold(text: str) -> str:
    """Lower case without accents, for search: Müller → muller, Ærø → ærø (letters without a decomposition stay)."""
    if text.isascii():
        return text.lower()
    return without_marks(text).casefold()


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidField("not_unicode", f"text contains a lone surrogate at position {error.start}") from None
