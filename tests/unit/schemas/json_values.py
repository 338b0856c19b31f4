"""Strategies for whatever a JSON document or a CSV file can hold."""

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

texts = st.one_of(
    st.text(),
    st.text(
        alphabet=st.characters(categories=("Zs", "Cc", "Lu", "Mn", "Nd"), include_characters=" \t\n\x00@.-+()/,$€:")
    ),
    st.text(alphabet="0123456789+-.,eE()$ _/", max_size=25),
    st.text(alphabet="aZ09.@-_+ ", max_size=40),
    st.text(alphabet="aB1 \u00a0\u00ad\u200b\u200c\u200d\u202a\u2060\ufe0f\ufeff\u0301:", max_size=30),
    st.just("\ud800"),
)
numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**5000), max_value=10**5000),
    st.floats(),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.sampled_from([Decimal("1e400000"), Decimal("1e-400000"), Decimal("-0"), Decimal("sNaN"), Decimal("0e999999")]),
)
scalars: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), numbers, texts)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
