"""Marks in a text what a query matched: whole words, beginnings of words, and words with typing errors.

Done here and not in the store, because both stores match the folded text, and a reader wants to see the original one:
a search for `muller` marks `Müller`. What is not marked is escaped for HTML, so an answer can be shown as it is.
An answer's marks are worked out on the API's event loop, so their work is bounded, whatever the texts and the query.
"""

import html
import re

from schemas.text import fold

OPEN, CLOSE = "<em>", "</em>"

FRAGMENT_CHARACTERS = 160

LONGEST_LOOKED_AT = 10_000
"""Characters of one text in which matches are marked."""

MOST_LOOKED_AT = 200_000
"""Characters of all texts of one answer: some 50 ms."""

MOST_COMPARED = 50_000
"""Characters of words that are compared with one of the query for typing errors, in one answer: 100 ms. Beyond that
whole words and beginnings are marked still."""

_WORD = re.compile(r"\w+")


class Highlighter:
    """Marks the matches of one query in the texts of one answer."""

    def __init__(self, query: str) -> None:
        self._wanted = tuple(dict.fromkeys(_WORD.findall(fold(query))))
        self._forgiving = [(word, _edits(word), frozenset(word)) for word in self._wanted if _edits(word)]
        self._known: dict[str, bool] = {}
        self._characters = MOST_LOOKED_AT
        self._compared = 0

    def mark(self, text: str) -> str | None:
        """`text`, or the part of it around the first match if it is long, with matches marked; None if there is none.

        Matches are looked for in the first LONGEST_LOOKED_AT characters, and no longer than the bounds above allow.
        """
        looked_at = text[: min(LONGEST_LOOKED_AT, self._characters)]
        self._characters -= len(looked_at)
        spans = [match.span() for match in _WORD.finditer(looked_at) if self._is_wanted(match.group())]
        if not spans:
            return None
        start, end = _fragment(text, spans[0][0])
        parts, position = ["…" if start else ""], start
        for left, right in spans:
            if start <= left < end:
                right = min(right, end)
                parts += [html.escape(text[position:left]), OPEN, html.escape(text[left:right]), CLOSE]
                position = right
        parts += [html.escape(text[position:end]), "…" if end < len(text) else ""]
        return "".join(parts)

    def _is_wanted(self, word: str) -> bool:
        known = self._known.get(word)
        if known is None:
            folded = fold(word)
            known = self._known[word] = folded.startswith(self._wanted) or self._has_typing_errors(folded)
        return known

    def _has_typing_errors(self, word: str) -> bool:
        letters = frozenset(word)
        for wanted, most, its_letters in self._forgiving:
            if abs(len(word) - len(wanted)) <= most:
                self._compared += len(word)
                if self._compared > MOST_COMPARED:
                    return False
                # An edit brings in one letter and takes away one: of most words no more than that has to be compared.
                if len(letters - its_letters) > most or len(its_letters - letters) > most:
                    continue
                if within_edits(word, wanted, most):
                    return True
        return False


def within_edits(left: str, right: str, most: int) -> bool:
    """True if at most `most` insertions, deletions, replacements or swaps of neighbours turn one into the other.

    Takes time in proportion to the length times `most`: what is further from the diagonal cannot be within.
    """
    if abs(len(left) - len(right)) > most:
        return False
    far = most + 1
    before: list[int] = []
    above = [min(j, far) for j in range(len(right) + 1)]
    for i, a in enumerate(left, 1):
        first, last = max(1, i - most), min(len(right), i + most)
        row = [far] * (len(right) + 1)
        row[0] = min(i, far)
        for j in range(first, last + 1):
            b = right[j - 1]
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row[j] = cost
        if min(row[first - 1 : last + 1]) > most:
            return False
        before, above = above, row
    return above[-1] <= most


def _edits(word: str) -> int:
    """Elasticsearch's `fuzziness: AUTO`: none below 3 characters, one up to 5, two from 6 on."""
    return 0 if len(word) < 3 else 1 if len(word) < 6 else 2


def _fragment(text: str, first_match: int) -> tuple[int, int]:
    if len(text) <= FRAGMENT_CHARACTERS:
        return 0, len(text)
    start = max(0, first_match - FRAGMENT_CHARACTERS // 3)
    if start:
        # Begin with a whole word.
        start = min(first_match, text.find(" ", start, first_match) + 1 or start)
    end = min(len(text), start + FRAGMENT_CHARACTERS)
    if end < len(text):
        end = max(first_match + 1, text.rfind(" ", first_match, end)) if " " in text[first_match:end] else end
    return start, end
