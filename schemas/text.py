"""Text in its normal forms: tidied, composed, folded. Every function is pure, and takes time that grows with the text.

Unicode's normal forms put combining marks behind one letter in order, and Python's way to do so is quadratic in their
number: half a million marks, a record of 1 MB, take minutes. Here a long row of marks is sorted first. No language
needs more than 30 marks on a letter (Unicode's "stream-safe text format", UAX #15), so nothing else pays for it.
"""

import codecs
import re
import unicodedata
from decimal import Decimal
from functools import cache
from typing import Literal

from schemas.errors import InvalidField

MAX_NUMBER_BITS = 4096
"""Larger integers cost quadratic time to print, and Python refuses beyond 4300 digits."""


LONGEST_DECOMPOSITION = 4
"""Characters that become one in Unicode NFC, at most."""

UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
"""Characters that nobody sees, Unicode's Default_Ignorable: byte order marks, joiners, soft hyphens, …"""


def tidy(value: object, longest: int | None = None, without: re.Pattern[str] | None = None) -> str | None:
    """Trim, collapse runs of white space to one space, compose to Unicode NFC, empty to None; numbers become digits.

    `without` are characters that do not count: UNSEEN in keys, numbers and the like. Text keeps all: Persian needs its
    joiners.

    `longest` is how many characters the caller takes: a text of which as many cannot remain is refused before it costs
    more; the exact length is for the caller to check. Raises InvalidField (`wrong_type`, `too_long`, `nul_character`,
    `not_unicode`) for what is no text: containers, booleans, giant integers, NUL (Postgres cannot hold it) and lone
    surrogates (not encodable).
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


Form = Literal["NFD", "NFKD"]

SHORT = 500
"""Characters; a text of so many marks takes 0.2 ms, and need not be looked through."""

LONG_ROW = 31

LAST_PLANE_WITH_MARKS = 0x1FFFF
"""There are no combining marks beyond it in any version of Unicode so far; a test holds it."""


def composed(text: str) -> str:
    """Unicode NFC."""
    if len(text) > SHORT:
        text = _long_rows("NFD").sub(_in_order, text)
    return unicodedata.normalize("NFC", text)


def without_marks(text: str) -> str:
    """Unicode NFKD without its combining marks: Ä → A, ﬁ → fi."""
    if len(text) > SHORT:
        text = _long_rows("NFKD").sub("", text)
    return "".join([c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)])


def is_mark(character: str, form: Form) -> bool:
    """True for a character that, decomposed, consists of combining marks only."""
    return unicodedata.combining(unicodedata.normalize(form, character)[0]) != 0


def _in_order(row: re.Match[str]) -> str:
    marks = "".join([unicodedata.normalize("NFD", mark) for mark in row[0]])
    return "".join(sorted(marks, key=unicodedata.combining))


@cache
def _long_rows(form: Form) -> re.Pattern[str]:
    """Rows of marks that are sorted or dropped at once. Compiled when first needed: 25 ms."""
    marks = [chr(code) for code in range(0x300, LAST_PLANE_WITH_MARKS + 1) if is_mark(chr(code), form)]
    return re.compile(f"[{''.join(marks)}]{{{LONG_ROW},}}")


_BYTE_ORDER_MARKS = (  # UTF-32's begins with UTF-16's: longest first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF_8_BYTE_ORDER_MARKS = re.compile(rb"\A(?:\xef\xbb\xbf)+")
_SCHEMA_ID = re.compile(rb"\A(?:\x00.{4}|\x03\x00.{16})(?=[ \t\r\n]*\{)", re.DOTALL)
"""A schema's id, which clients of schema registries (Confluent's, AWS Glue's) write before a JSON object."""

FRAMES = (b"\x00", b"\x03")
"""The bytes with which these begin. No JSON does."""


def unmarked(body: bytes) -> bytes:
    """Text in UTF-8 without its byte order mark, and what the mark says is UTF-16 or UTF-32 as UTF-8; else as it is.

    No mark is left before it, nor the id of a schema that a registry's client has written before a JSON object. What is
    no text in UTF-16 or UTF-32 becomes U+FFFD.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return body.decode(encoding, "replace").lstrip("\ufeff").encode()
    if body.startswith(FRAMES):
        return _SCHEMA_ID.sub(b"", body)
    return _UTF_8_BYTE_ORDER_MARKS.sub(b"", body)
