"""What is no JSON is taken apart all the same: one bad record costs its neighbours nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.api.pages import Pagination
from producers.json_parts import NotSplit, OtherShape, TooManyParts, elements, members
from producers.webhook.webhooks import records_in
from schemas.errors import InvalidRecord
from stream_processors.normalize import decode_object

GOOD = b'{"id": 1, "x": "},{[\\"\\\\", "y": [{"z": [1, 2]}, {}]}'
BAD = {
    "half a surrogate pair": rb'{"id": 2, "x": "\ud83d"}',
    "the other half": rb'{"id": 2, "x": "\ude00 "}',
    "NaN": b'{"id": 2, "x": NaN}',
    "infinity": b'{"id": 2, "x": -Infinity}',
    "a raw tab": b'{"id": 2, "x": "a\tb"}',
    "a raw line end": b'{"id": 2, "x": "a\r\nb"}',
    "NUL": b'{"id": 2, "x": "a\0b"}',
    "a bad escape": rb'{"id": 2, "x": "C:\Users"}',
    "half an escape": rb'{"id": 2, "x": "\u12"}',
    "bytes that are no UTF-8": b'{"id": 2, "x": "\xff\xfe"}',
    "surrogates in UTF-8": b'{"id": 2, "x": "\xed\xa0\xbd"}',
    "a zero before the number": b'{"id": 02}',
    "no number": b'{"id": 2, "x": 1.}',
    "no value": b'{"id": 2, "x": }',
    "a comma too many": b'{"id": 2,}',
    "no quotes": b"{id: 2, x: {y: 1}}",
    "other quotes": b"{'id': 2, 'x': 'y'}",
    "Python": b'{"id": 2, "x": None, "y": True}',
    "a comment": b'{"id": 2 /* two */}',
    "deep nesting": b'{"id":' * 50_000 + b"2" + b"}" * 50_000,
    "an array without an end": b'{"id": 2, "x": [1, 2}',
    "an object without an end": b'{"id": 2, "x": {"y": 1}',
    "several objects without an end": b'{"id": 2, "x": {"y": {"z": 2',
    "a word": b"nothing",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_record_is_alone_among_its_neighbours_wherever_it_stands(bad: bytes) -> None:
    with pytest.raises(InvalidRecord) as refused:
        decode_object(bad)
    assert refused.value.reason == "not_json"
    for records in ([bad, GOOD, GOOD], [GOOD, bad, GOOD], [GOOD, GOOD, bad], [bad], [bad, GOOD, bad]):
        array = b" [ %b ]\n" % b" , ".join(records)
        assert elements(array) == records_in(array) == records
        assert Pagination(style="array").read(array).records == records
        page = Pagination().read(b'{"total_pages":3,"data":%b,"more": {"x": [1]}}' % array)
        assert page == (records, 3)


def test_an_envelope_may_be_bad_outside_its_records() -> None:
    page = rb'{"message": "\ud83d", "data": [{"id": 1}, 7], "x": NaN, "total_pages": 2, "\q": 1}'
    assert Pagination().read(page) == ([b'{"id": 1}', b"7"], 2)


def test_a_comma_too_many_between_records_is_no_record() -> None:
    assert elements(b'[,{"id": 1},, {"id": 2} ,]') == [b'{"id": 1}', b'{"id": 2}']


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[1, 2",
        b'[{"id": 1}, {"id',
        b'[{"id": 1, "x": "no end}, {"id": 2}]',
        b'[{"id": 1]}, {"id": 2}]',
        b'[{"id": 1}}, {"id": 2}]',
        b"[1] [2]",
        b'[{"id": 1, {"id": 2}, "x": 3}]',
        b"[" * 100_000,
        b"[" * 50_000 + b"}" * 50_000,
        b'["\\',
    ],
)
def test_an_array_that_could_be_split_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(NotSplit):
        elements(body)
    with pytest.raises(NotSplit):
        members(b'{"data": %b' % body)


@pytest.mark.parametrize("body", [b"", b" ", b"<html>", b"{}", b"null", b"7", b'"["'])
def test_a_body_that_is_no_array_is_refused_as_another_shape(body: bytes) -> None:
    with pytest.raises(OtherShape):
        elements(body)


def test_an_array_of_too_many_parts_is_refused_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.json_parts.MOST_PARTS", 3)
    assert elements(b"[[1,2,3,4],NaN,3]") == [b"[1,2,3,4]", b"NaN", b"3"]
    with pytest.raises(TooManyParts, match="more than 3 records"):
        elements(b'[{"x": [}, {"x": [}, {"x": [}, {"x": [}]')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},: \n\u20ac'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a"\\[]{},:', max_size=3), inner),
    max_leaves=12,
)


@given(values=st.lists(JSON, max_size=5), at=st.integers(0, 5))
def test_the_neighbours_of_a_bad_record_are_kept_byte_for_byte(values: list[object], at: int) -> None:
    records = [msgspec.json.encode(value) for value in values]
    records.insert(at, b"NaN")
    assert elements(b"[%b]" % b",".join(records)) == records
    named = {f"k{number}": record for number, record in enumerate(records)}
    assert members(b"{%b}" % b", ".join(b'"%b" : %b' % (k.encode(), v) for k, v in named.items())) == named


@given(body=st.binary() | st.text(alphabet='[]{},:"\\a1').map(str.encode))
def test_any_bytes_are_split_or_refused(body: bytes) -> None:
    for take_apart in (elements, members):
        try:
            take_apart(body)
        except NotSplit:
            continue
