"""A row of a CSV file becomes the object {column: text}, however its columns are named."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producers.csv.source import _objects_of

cells = st.text(st.characters(exclude_categories=["Cs"]))


@given(row=st.dictionaries(cells, cells))
@example(row={"a": "1", 'q"': "2"})
@example(row={"a\\b": "1", "\n": "2", "é": "\x00", "": ""})
def test_a_row_is_the_object_of_its_columns(row: dict[str, str]) -> None:
    made = msgspec.json.encode(_objects_of(list(row))(*row.values()))
    assert made == msgspec.json.encode(row)


@pytest.mark.parametrize("columns", [["a", "b"], ["a", 'q"']])
@pytest.mark.parametrize("row", [["1"], ["1", "2", "3"]])
def test_a_row_of_another_width_is_a_mistake_of_ours(columns: list[str], row: list[str]) -> None:
    as_object: Any = _objects_of(columns)
    with pytest.raises((TypeError, ValueError)):
        as_object(*row)


def test_half_a_surrogate_pair_is_refused_by_the_encoder() -> None:
    with pytest.raises(UnicodeEncodeError):
        msgspec.json.encode(_objects_of(["a"])("\udcff"))
