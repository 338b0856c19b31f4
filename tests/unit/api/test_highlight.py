"""Highlights mark what a reader would point at, in the text as it was written."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.search.highlight import highlight, within_edits


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
