"""Marks in a text what a query matched: whole words, beginnings of words, and words with typing errors.

Done here and not in the store, because both stores match the folded text, and a reader wants to see the original one:
a search for `muller` marks `Müller`. What is not marked is escaped for HTML, so an answer can be shown as it is.
"""

import html
import re

from schemas.text import fold

OPEN, CLOSE = "<em>", "</em>"

FRAGMENT_CHARACTERS = 160

_WORD = re.compile(r"\w+")


def highlight(text: str, query: str) -> str | None:
    """`text`, or the part of it around the first match if it is long, with matches marked; None if there is none."""
    wanted = set(_WORD.findall(fold(query)))
    spans = [match.span() for match in _WORD.finditer(text) if _is_wanted(fold(match.group()), wanted)]
    if not spans:
        return None
    start, end = _fragment(text, spans[0][0])
    parts, position = ["…" if start else ""], start
    for left, right in spans:
        if left >= start and right <= end:
            parts += [html.escape(text[position:left]), OPEN, html.escape(text[left:right]), CLOSE]
            position = right
    parts += [html.escape(text[position:end]), "…" if end < len(text) else ""]
    return "".join(parts)


def within_edits(left: str, right: str, most: int) -> bool:
    """Whether at most so many insertions, deletions, replacements or swaps of neighbours turn one into the other."""
    if abs(len(left) - len(right)) > most:
        return False
    before: list[int] = []
    above = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return False
        before, above = above, row
    return above[-1] <= most


def _is_wanted(word: str, wanted: set[str]) -> bool:
    return any(word.startswith(w) or within_edits(word, w, _edits(w)) for w in wanted)


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
