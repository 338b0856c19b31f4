import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.record_key import LONGEST_KEY, JsonRecordKey, RecordKey
from producers.source import SourceDescription
from schemas.registry import dataset_named

RECORDS = SourceDescription("shop", "api", dataset_named("records"), {"source_id": "id"})
CUSTOMERS = SourceDescription("crm", "api", dataset_named("customers"))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'{"id": 17, "title": "x"}', "shop:17"),
        (b'{"id": "  a   b "}', "shop:a b"),
        (b'{"id": 1.10}', "shop:1.10"),
        (b'{"id": 1e999999999999999999999}', "shop:1e999999999999999999999"),
        (b'{"id": "a:b"}', "shop:a:b"),
        (b'{"id": "x", "source_name": "other"}', "other:x"),
        (b'{"id": ""}', None),
        (b'{"id": null}', None),
        (b'{"title": "x"}', None),
        (b'{"id": {"nested": 1}}', None),
        (b'{"id": true}', None),
        (b"[1]", None),
        (b"not json", None),
        (b"", None),
        (b'{"id": "\xff"}', None),
        (b'{"id": ' + b"[" * 100_000, None),
    ],
)
def test_the_key_of_a_json_record_is_the_normalized_one_or_none(value: bytes, key: str | None) -> None:
    assert JsonRecordKey(RECORDS).of(value) == key


def test_a_dataset_with_one_key_field_has_no_prefix() -> None:
    assert JsonRecordKey(CUSTOMERS).of(b'{"customer_id": " CUST001 "}') == "CUST001"


def test_a_key_without_a_normal_form_is_the_text_as_it_is_so_that_order_holds() -> None:
    long = "\x00" + "x" * LONGEST_KEY
    assert RecordKey(CUSTOMERS).of([long]) == long[:LONGEST_KEY]
    assert RecordKey(CUSTOMERS).of(["a\x00b"]) == "a\x00b"


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_the_key_raise(value: bytes) -> None:
    JsonRecordKey(RECORDS).of(value)


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_every_key_can_be_sent(text: str) -> None:
    key = RecordKey(CUSTOMERS).of([text])
    assert key is None or key.encode()
