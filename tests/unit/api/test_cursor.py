"""Cursors: what is put in comes out, and nothing else is taken."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import ProblemAnswer
from api.record_pages import decode_cursor, encode_cursor

texts = st.text(st.characters(exclude_characters="\x00", codec="utf-8"))


@given(st.lists(texts, min_size=1, max_size=3))
def test_a_cursor_brings_its_key_back(key: list[str]) -> None:
    cursor = encode_cursor(tuple(key))
    assert decode_cursor(cursor, len(key)) == tuple(key)
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(st.text())
def test_any_other_text_is_refused_or_decoded_but_never_crashes(text: str) -> None:
    with suppress(ProblemAnswer):
        assert len(decode_cursor(text, 1)) == 1


@pytest.mark.parametrize("content", [b"[]", b'["a","b"]', b"[1]", b'{"a":1}', b'"a"', b'["\\u0000"]', b"\xff", b""])
def test_a_cursor_of_another_shape_is_refused(content: bytes) -> None:
    with pytest.raises(ProblemAnswer):
        decode_cursor(base64.urlsafe_b64encode(content).decode(), 1)
