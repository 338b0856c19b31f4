"""Guesses the encoding of text that is neither marked nor Unicode: by pairs of letters, and by words that can be words.

chardet compares the text with what the languages look like in each encoding. In rows of a table most text is ASCII, and
there are few words to compare: which of two readings makes words of one script, with capitals where they belong, then
tells more. Pure, and bounded by the length of what it is given.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

CANDIDATES = (  # noqa: SIM905 (a list would take a line for each)
    "cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 koi8-r cp866 mac-roman mac-cyrillic cp437 "
    "cp850 cp852 iso8859-2 iso8859-5 iso8859-7 iso8859-9 iso8859-13 iso8859-15 tis-620 "
    "cp932 shift_jis_2004 euc_jis_2004 gb18030 big5hkscs cp949"
).split()
RARE = (  # noqa: SIM905
    "iso8859-3 iso8859-4 iso8859-6 iso8859-8 iso8859-10 iso8859-14 iso8859-16 koi8-u cp737 cp775 cp855 cp857 cp862 "
    "mac-greek mac-latin2 johab"
).split()
RARE_WEIGHT = 0.8
ISO_WEIGHT = 0.97

USUAL = "cp1252"
"""Most files that are not UTF-8 are in it. One accent in a file fits many encodings equally well."""
USUAL_WEIGHT = 0.2
"""Added to its weight where there is one word to judge by; with n words an n-th of that."""

CLEAR_RATIO = 1.02
"""Of the best reading to the next one that reads otherwise. Of 2,700 samples 1 in 5 below is wrong, 1 in 45 above."""
LEAST_READABLE = 0.5
"""Share of the words that can be words."""
LEAST_SCORE = 0.005

MOST_WORDS = 300
"""They are all looked at in each encoding, and more would tell the same."""

_NARROWER = {  # what a codec's text may be meant in; its own reading of some signs is another one
    "cp932": ("shift_jis",),
    "shift_jis_2004": ("shift_jis", "cp932"),
    "euc_jis_2004": ("euc_jp",),
    "big5hkscs": ("big5", "cp950"),
    "cp874": ("tis-620",),
}

_WORD = re.compile(rb"(?<![0-9\x40-\xff])[0-9\x40-\x7f]*[\x80-\xff][0-9\x40-\xff]*")
"""Bytes below 0x40, but for digits, are no part of a character in any of these encodings."""

_TYPESET = re.compile(rb"[\x91\x93]?[0-9A-Za-z]*(?:\x92(?:s|t|d|m|ll|re|ve))?[\x85\x92\x94\x96\x97]?")
"""Quotes and dashes as Windows writes them, about plain words: elsewhere these bytes are letters, but not there."""

_SIGNS = re.compile(
    rb"[0-9\x80\x85\x95-\x97\xa0\xa3\xa5\xa7\xa9\xae\xb1\xbc-\xbe\xd7\xf7]*([\xb0\xb5][A-Za-z]{0,3})?"
    rb"|[0-9]*[A-Za-z]{1,3}[\xaa\xb0\xb2\xb3\xba]|[0-9A-Za-z]+[\x99\xae]"
)
"""Sums of money, measures and the like in the usual encoding."""

_SELDOM = frozenset("šžŠŽœŒŸÿƒðþÐÞýÝ")
"""Letters that these Western encodings have and their text hardly needs; a misread one often becomes such a letter."""
_WESTERN = frozenset({"cp1252", "cp437", "cp850", "mac-roman", "iso8859-15"})
_SELDOM_CYRILLIC = frozenset("ЂЃѓЉЊЌЋЏђљњќћџ")
_QUOTES = "“”‘’„‚«»‹›"
_BEFORE = _QUOTES + "–—…¿¡•·-'(_`´"
_AFTER = _QUOTES + "–—…™®©°ºª€£¢-'_`´"
_ENDINGS = frozenset({"s", "t", "d", "m", "ll", "re", "ve"})
_EAST_ASIAN = frozenset(
    {"HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "HANGUL", "IDEOGRAPHIC", "KATAKANA-HIRAGANA", "BOPOMOFO"}
)


class Guess(NamedTuple):
    """The best reading, how sure it is (0 to 1), and the next one that reads otherwise."""

    encoding: str
    sure: float
    other: str | None = None


def guess_encoding(lines: Sequence[bytes]) -> Guess | None:
    """The likeliest encoding of lines that each hold a byte over 0x7F; None if they are text in none that is known."""
    whole, text = b"\n".join(lines), b"\n".join(_undamaged(lines))
    words = list(islice(dict.fromkeys(_WORD.findall(text)), MOST_WORDS))
    if not words:
        return None
    if all(_SIGNS.fullmatch(word) for word in words):
        return Guess(USUAL, 0.9)
    typeset = sum(_TYPESET.fullmatch(word) is not None for word in words) / len(words)
    scores: dict[str, float] = {}
    import chardet  # here, since its models are large and few texts need a guess

    for found in chardet.detect_all(
        text, include_encodings=CANDIDATES + RARE, compat_names=False, ignore_threshold=True, max_bytes=len(text)
    ):
        name = found["encoding"]
        if name is None:
            continue
        readable = sum(_readable(word.decode(name, "replace"), name in _WESTERN) for word in words) / len(words)
        if readable >= LEAST_READABLE:
            weight = _usual(name, len(words)) * (1 if name.startswith("cp125") else 1 - typeset)
            name = _narrowed(name, whole)
            scores[name] = max(scores.get(name, 0), found["confidence"] * readable**2 * weight)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    if not ranked or scores[ranked[0]] < LEAST_SCORE:
        return None
    best = ranked[0]
    other = next((name for name in ranked if text.decode(name, "replace") != text.decode(best, "replace")), None)
    ratio = scores[best] / scores[other] if other and scores[other] else 100.0
    # As measured: of what is so much better than the next, so many are right.
    return Guess(best, round(min(0.99, 1 - 0.1 / ratio**2), 2) if ratio >= CLEAR_RATIO else 0.5, other)


def first_difference(lines: Sequence[bytes], one: str, other: str) -> tuple[str, str]:
    """The first word that two encodings read differently, in both readings; empty if there is none."""
    for word in _WORD.findall(b"\n".join(lines)):
        readings = word.decode(one, "replace"), word.decode(other, "replace")
        if readings[0] != readings[1]:
            return readings
    return "", ""


def _usual(name: str, words: int) -> float:
    """The weight of an encoding: usual ones count more, the more the less there is to judge by."""
    if name == USUAL:
        return 1 + USUAL_WEIGHT / words
    return RARE_WEIGHT if name in RARE else ISO_WEIGHT if name.startswith("iso") else 1


def _undamaged(lines: Sequence[bytes]) -> list[bytes]:
    """The lines that every encoding reads that reads nearly all: one with a cut character must not rule it out."""
    unread = {name: {at for at, line in enumerate(lines) if not reads(name, line)} for name in CANDIDATES + RARE}
    damaged = set().union(*(few for few in unread.values() if len(few) * 10 <= len(lines)))
    return [line for at, line in enumerate(lines) if at not in damaged]


def reads(name: str, data: bytes) -> bool:
    """True if the bytes are valid in that encoding."""
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _narrowed(name: str, text: bytes) -> str:
    """The narrower encoding if it reads all, and reads it differently; else the one that reads more."""
    for narrower in _NARROWER.get(name, ()):
        if reads(narrower, text) and (name.endswith("2004") or text.decode(narrower) != text.decode(name)):
            return narrower
    return name


@cache
def _kind(character: str) -> tuple[str, str]:
    """Script, if it belongs to one, and category. Ligatures are signs: they are hardly typed, but often misread."""
    category = unicodedata.category(character)
    if category[0] not in "LM":
        return "", category
    name = unicodedata.name(character, "?").split()
    if "LIGATURE" in name and character not in "œŒæÆ":
        return "", "So"
    return ("CJK" if name[0] in _EAST_ASIAN else name[0]), category


def _readable(word: str, western: bool) -> float:
    """Likeness to a word, from 0 (it can be none) to 1."""
    bare = word.strip().lstrip(_BEFORE).rstrip(_AFTER)
    kinds = [_kind(character) for character in bare]
    scripts = {script for script, category in kinds if category[0] == "L" and script}
    if "CJK" in scripts:
        return float(scripts <= {"CJK", "LATIN", "GREEK", "CYRILLIC"} and all(c[0] != "C" for _, c in kinds))
    if len(scripts) > 1:
        return 0
    well = 1.0 if bare == word else 0.95
    for at, character in enumerate(bare):
        category = kinds[at][1]
        before, after = (kinds[at - 1][1] if at else ""), (kinds[at + 1][1] if at + 1 < len(bare) else "")
        if character.isascii() or category[0] == "M" or character in "ªº":
            continue
        if category[0] == "L":
            if _misplaced(category, before, after):
                return 0
            if character in _SELDOM_CYRILLIC or (western and character in _SELDOM):
                well *= 0.8
        elif character == "’":
            well *= 1 if at <= 2 or bare[at + 1 :] in _ENDINGS else 0.5
        elif character in "–—":
            well *= 0.6 if before[:1] == after[:1] == "L" else 1
        elif category[0] == "C" or (category != "Nd" and before != "Nd" and "L" in (before[:1], after[:1])):
            return 0
    return well


def _misplaced(category: str, before: str, after: str) -> bool:
    """True for a letter where none of its case stands in a word, or beside a digit."""
    if "Nd" in (before, after):
        return True
    if category == "Lu":
        return before == "Ll" or (before == "Lu" and after == "Ll")
    return category == "Ll" and before == after == "Lu"
