"""Unicode normal forms in time that grows with the text, whatever the text.

The normal forms put combining marks behind one letter in order, and Python's way to do so is quadratic in their number:
half a million marks, a record of 1 MB, take minutes. Here a long row of marks is sorted first. No language needs more
than 30 marks on a letter (Unicode's "stream-safe text format", UAX #15), so nothing else pays for it.
"""

import re
import unicodedata
from functools import cache
from typing import Literal

Form = Literal["NFD", "NFKD"]

SHORT = 500
"""Characters; a text of so many marks takes 0.2 ms, and need not be looked through."""

LONG_ROW = 31

LAST_PLANE_WITH_MARKS = 0x1FFFF
"""There are no combining marks beyond it in any version of Unicode so far; a test holds it."""


UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
"""Characters that nobody sees, Unicode's Default_Ignorable: byte order marks, joiners, soft hyphens, …"""


def composed(text: str) -> str:
    """Unicode NFC. Pure."""
    if len(text) > SHORT:
        text = _long_rows("NFD").sub(_in_order, text)
    return unicodedata.normalize("NFC", text)


def without_marks(text: str) -> str:
    """Unicode NFKD without its combining marks: Ä → A, ﬁ → fi. Pure."""
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
    """Made when first needed: 25 ms."""
    marks = [chr(code) for code in range(0x300, LAST_PLANE_WITH_MARKS + 1) if is_mark(chr(code), form)]
    return re.compile(f"[{''.join(marks)}]{{{LONG_ROW},}}")
