import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidRecord
from stream_processors.normalize import decode_object

texts = st.text(st.characters(codec="utf-8")) | st.sampled_from([":", '":', "\\u003a", "12:30:00", "a:b"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def pairs_as_json(pairs: list[tuple[str, Any]], ascii_only: bool) -> bytes:
    inner = ", ".join(f"{json.dumps(k, ensure_ascii=ascii_only)} :{json.dumps(v)}" for k, v in pairs)
    return f"{{{inner}}}".encode()


@given(st.lists(st.tuples(texts, values), max_size=6, unique_by=lambda pair: pair[0]), st.booleans())
def test_an_object_without_duplicates_is_decoded(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    assert decode_object(pairs_as_json(pairs, ascii_only)) == dict(pairs)


@given(st.lists(st.tuples(texts, values), min_size=1, max_size=5), values, st.data())
def test_a_key_that_occurs_twice_is_found_wherever_it_is(
    pairs: list[tuple[str, Any]], value: Any, data: st.DataObject
) -> None:
    key, _ = data.draw(st.sampled_from(pairs))
    doubled = pairs_as_json([*pairs, (key, value)], ascii_only=True)
    for nested in (doubled, b'{"inside": %b}' % doubled, b'{"inside": [1, %b]}' % doubled):
        with pytest.raises(InvalidRecord) as verdict:
            decode_object(nested)
        assert verdict.value.reason == "duplicate_key"


@pytest.mark.parametrize(
    "value",
    [
        rb'{"a": 1, "a": "\u003a"}',
        rb'{"a": 1, "\u0061": 2}',
        b'{"a": {"b": ":"}, "a": {"c": 1, "d": 2}}',
        b'{"a" : 1, "a" : 2, "b": "x"}',
        b'{"a"\t:1, "a"\n:2, "b"\r:"https://x.org"}',
        b'{"a": 1, "a": "12:30", "b": {}}',
        b'{"a": [{"b": 1, "b": 2}], "t": "12:30"}',
    ],
)
def test_escapes_and_dropped_values_hide_no_duplicate(value: bytes) -> None:
    with pytest.raises(InvalidRecord, match="occurs twice"):
        decode_object(value)


@pytest.mark.parametrize("depth", [100, 500, 900, 5_000, 1_000_000])
def test_nesting_of_any_depth_ends_in_an_object_or_a_verdict(depth: int) -> None:
    value = b'{"a":' * depth + b'":"' + b"}" * depth
    if depth <= 100:
        assert decode_object(value)
    else:
        with contextlib.suppress(InvalidRecord):
            decode_object(value)
    arrays = b'{"a": ":", "b": ' + b"[" * depth + b"]" * depth + b"}"
    with contextlib.suppress(InvalidRecord):
        decode_object(arrays)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_an_object_is_read_past_its_byte_order_mark(codec: str) -> None:
    assert decode_object('{"a": "é"}'.encode(codec)) == {"a": "é"}
    with pytest.raises(InvalidRecord, match="not JSON"):
        decode_object('{"a": '.encode(codec))


@pytest.mark.parametrize("marks", ["\ufeff".encode() * 400_000, "\ufeff".encode("utf-16-be") * 400_000])
def test_any_number_of_byte_order_marks_is_read_past_at_once(marks: bytes) -> None:
    with pytest.raises(InvalidRecord, match="not JSON"):
        decode_object(marks)


@pytest.mark.parametrize("frame", [b"\0\0\0\0\x11", b"\0\n\n\n{", b"\x03\0" + bytes(range(16))])
def test_a_schema_id_of_a_registry_is_read_past_and_what_is_no_json_behind_it_is_named(frame: bytes) -> None:
    assert decode_object(frame + b'{"a": 1}') == {"a": 1}
    with pytest.raises(InvalidRecord, match="Avro or Protobuf"):
        decode_object(frame + b"\x02\x0eseven")
    with pytest.raises(InvalidRecord, match="twice"):
        decode_object(frame + b'{"a": 1, "a": 2}')
