"""Messages of a foreign topic keep what they bring; keys and deletes become ours."""

from typing import Any, cast

import pytest
from confluent_kafka import Message

from producers.kafka.source import ForeignRecords
from producers.source import SourceDescription, SourceRecord
from schemas.registry import dataset_named

RECORDS = SourceDescription("shop", "kafka", dataset_named("records"), {"source_id": "id"})
CUSTOMERS = SourceDescription("crm", "kafka", dataset_named("customers"))


def record(source: SourceDescription, value: bytes | None, key: bytes | None, headers: Any = None) -> SourceRecord:
    message = cast("Any", Message)(
        topic="theirs", partition=3, offset=42, key=key, value=value, headers=headers, timestamp=(1, 1)
    )
    return ForeignRecords(source).of(message)


@pytest.mark.parametrize(
    ("value", "key", "ours"),
    [
        (b'{"id": 7}', b"whatever", "shop:7"),
        (b'{"id": 7}', None, "shop:7"),
        (b'{"no": 7}', b"theirs", "theirs"),
        (b'\0\0\0\0\x11{"id": 7}', b"theirs", "shop:7"),
        (b'\0\0\n\0\x11\n {"id": "\xc3\xa9"}', b"theirs", "shop:\u00e9"),
        (b"\x03\0" + b"\n" * 16 + b'{"id": 7}', b"theirs", "shop:7"),
        (b"\0\0\0\0\x11\x02\x0eseven", b"theirs", "theirs"),
        (b"no json", b"\xff", "\ufffd"),
        (b"no json", None, None),
    ],
)
def test_the_key_is_that_of_the_dataset_else_the_messages_own(
    value: bytes, key: bytes | None, ours: str | None
) -> None:
    found = record(RECORDS, value, key)
    assert (found.value, found.key) == (value, ours)


@pytest.mark.parametrize(
    ("source", "key", "ours"),
    [
        (RECORDS, b"7", "shop:7"),
        (RECORDS, b'{"id": 7}', "shop:7"),
        (CUSTOMERS, b" CUST001 ", "CUST001"),
        (CUSTOMERS, b'{"customer_id": "CUST001"}', "CUST001"),
        (CUSTOMERS, '\ufeff{"customer_id": "CUST\u200b001"}'.encode(), "CUST001"),
        (CUSTOMERS, "CUST\u00ad001".encode("utf-16"), "CUST001"),
        (CUSTOMERS, b'\0\0\0\0\x11{"customer_id": "CUST001"}', "CUST001"),
        (CUSTOMERS, b'{"other": 1}', '{"other": 1}'),
        (CUSTOMERS, None, None),
    ],
)
def test_a_message_without_a_value_deletes_the_record_of_its_key(
    source: SourceDescription, key: bytes | None, ours: str | None
) -> None:
    found = record(source, None, key)
    assert (found.value, found.key) == (None, ours)


def test_headers_are_carried_over_but_none_that_would_pass_for_ours() -> None:
    headers = [
        ("trace", b"1"), ("trace", b"2"), ("empty", None), ("headrace-problem", b"x"), ("ce_id", b"9"),
        ("content-type", b"text/plain"),
    ]  # fmt: skip
    assert record(RECORDS, b"{}", None, headers).headers == (
        ("trace", b"1"), ("trace", b"2"), ("empty", None), ("headrace-origin", b"theirs:3:42")
    )  # fmt: skip
