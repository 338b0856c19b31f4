"""A body is one record or an array of them, each as its sender wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.webhook.webhooks import BodyRefused, records_in


def test_an_object_is_one_record_byte_for_byte() -> None:
    assert records_in(b' {"a" : 1.10, "b":"\\u00e9"}\n') == [b' {"a" : 1.10, "b":"\\u00e9"}\n']


def test_each_element_of_an_array_is_a_record_byte_for_byte() -> None:
    assert records_in(b'[ {"a" : 1.10} ,{}, 7, null]') == [b'{"a" : 1.10}', b"{}", b"7", b"null"]
    assert records_in(b"[]") == []


@pytest.mark.parametrize("record", [rb'{"id": "\ud83d"}', b'{"a":}', b'{"id": NaN}'])
def test_an_object_that_is_no_json_is_a_record_that_will_be_a_failure(record: bytes) -> None:
    assert records_in(record) == [record]
    assert records_in(b'[{"id": 1},%b]' % record) == [b'{"id": 1}', record]


@pytest.mark.parametrize(
    "body", [b"", b" ", b"7", b'"x"', b"null", b"{", b"[1,", b"a=1&b=2", b"\xff\xfe", b"[" * 100_000]
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(BodyRefused):
        records_in(body)


@given(st.binary())
def test_any_body_is_taken_apart_or_refused(body: bytes) -> None:
    try:
        records_in(body)
    except BodyRefused:
        return


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_body_is_read_past_its_mark(codec: str) -> None:
    assert records_in('[{"a": "é"}]'.encode(codec)) == ['{"a": "é"}'.encode()]
    assert records_in('{"a": "é"}'.encode(codec)) == ['{"a": "é"}'.encode()]
