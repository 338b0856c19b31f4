"""Highlights mark what a reader would point at, in the text as it was written."""

import html
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.search.highlight import LONGEST_LOOKED_AT, MOST_LOOKED_AT, Highlighter, within_edits
from schemas.text import fold


def highlight(text: str, query: str) -> str | None:
    return Highlighter(query).mark(text)


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Jürgen Müller", "muller", "Jürgen <em>Müller</em>"),
        ("Jürgen Müller", "mul", "Jürgen <em>Müller</em>"),
        ("Katherine Johnson", "jonhson katherin", "<em>Katherine</em> <em>Johnson</em>"),
        ("a <b> & c", "c", "a &lt;b&gt; &amp; <em>c</em>"),
        ("Hauptstraße 1", "HAUPTSTRASSE", "<em>Hauptstraße</em> 1"),
        ("nothing here", "else", None),
        ("ab", "ac", None),
        ("", "a", None),
        ("text", "%&/", None),
    ],
)
def test_matches_are_marked_and_the_rest_is_escaped(text: str, query: str, expected: str | None) -> None:
    assert highlight(text, query) == expected


def test_a_long_text_is_cut_to_the_part_around_its_first_match() -> None:
    marked = highlight("lorem ipsum " * 100 + "needle " + "dolor sit " * 100, "needle")
    assert marked is not None
    assert "<em>needle</em>" in marked
    assert marked.startswith("…")
    assert marked.endswith("…")
    assert len(marked) < 200


@given(st.text(max_size=400), st.text(max_size=40))
def test_a_marked_text_without_its_marks_is_part_of_the_text(text: str, query: str) -> None:
    marked = highlight(text, query)
    if marked is not None:
        plain = html.unescape(re.sub("</?em>", "", marked))
        assert plain.removeprefix("…").removesuffix("…") in text or plain in text
        assert "<em>" in marked


@pytest.mark.parametrize(
    ("left", "right", "most", "expected"),
    [
        ("a", "a", 0, True),
        ("ab", "ba", 1, True),
        ("ab", "ba", 0, False),
        ("kitten", "sitting", 2, False),
        ("kitten", "sitting", 3, True),
        ("johnson", "johnston", 1, True),
        ("", "abc", 2, False),
    ],
)
def test_edits_are_counted_with_swaps_as_one(left: str, right: str, most: int, expected: bool) -> None:
    assert within_edits(left, right, most) is expected
    assert within_edits(right, left, most) is expected


def test_a_word_longer_than_a_fragment_is_marked_as_far_as_it_is_shown() -> None:
    assert highlight("x" * 1000, "x" * 1000) == f"<em>{'x' * 160}</em>…"


LETTERS = "abcdefghij"
QUERY = " ".join(f"{'a' * 15}{letter * 4}" for letter in LETTERS)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"{'a' * 15}{a}{b}{c}{d}" for a in LETTERS for b in LETTERS for c in LETTERS for d in "klmnopqrs"),
        "z " * LONGEST_LOOKED_AT,
        "e\u0301" * LONGEST_LOOKED_AT,
        "a" * 1_000_000,
    ],
    ids=["nearly the words of the query", "many words", "marks", "one word"],
)
def test_an_answer_of_a_hundred_large_texts_takes_no_longer_than_its_bounds_allow(text: str) -> None:
    highlighter = Highlighter(QUERY)
    started = time.process_time()
    for _ in range(100):
        highlighter.mark(text)
    assert time.process_time() - started < 2.0, "it takes 0.2 s, and minutes without bounds"


def test_beyond_its_bounds_an_answer_has_no_more_marks() -> None:
    highlighter = Highlighter("needle")
    texts = MOST_LOOKED_AT // LONGEST_LOOKED_AT
    marked = [highlighter.mark("needle " * LONGEST_LOOKED_AT) is not None for _ in range(texts + 1)]
    assert marked == [True] * texts + [False]


@given(st.text("abcdé", min_size=1, max_size=9), st.text("abcdé", min_size=3, max_size=9))
def test_a_word_is_marked_where_as_many_edits_as_elasticsearch_forgives_make_it_the_one_that_is_asked_for(
    word: str, query: str
) -> None:
    folded, wanted = fold(word), fold(query)
    forgiven = within_edits(folded, wanted, 1 if len(wanted) < 6 else 2)
    assert (Highlighter(query).mark(word) is not None) == (folded.startswith(wanted) or forgiven)
