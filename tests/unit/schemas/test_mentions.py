"""The keys that a record names: what is found in any form of record, and that nothing makes the search fail."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.mentions import Name, address, mentioned, names_of
from schemas.registry import dataset_named

CUSTOMERS, ORDERS, USERS, RECORDS = map(dataset_named, ("customers", "orders", "users", "records"))
ADA = Name("customers", "CUST001")


def test_a_record_in_normal_form_names_its_own_key_and_whom_it_is_about() -> None:
    data = json.dumps({"order_id": "O1", "customer_id": "CUST001", "quantity": 1}).encode()
    assert names_of(ORDERS, "O1", data) == {Name("orders", "O1"), ADA}
    assert names_of(ORDERS, "O1", b"null") == {Name("orders", "O1")}
    assert names_of(CUSTOMERS, "CUST001", b"{}") == {ADA}


@pytest.mark.parametrize(
    ("key", "payload"),
    [
        ("CUST001", None),
        (" CUST001 ", b"{"),
        (None, b'{"customer_id": "CUST001"}'),
        (None, b'{"Kundennummer": " CUST001"}'),
        ("other", b'{"person": {"ids": ["x", "CUST001"]}}'),
        ("CUST001", b'{"customer_id": "CUST777"}'),
        (None, b"CUST001;Ada;Lovelace"),
        (None, b'"CUST001","Ada"'),
        (None, b'["CUST001;Ada"]'),
        (None, b"\xff\xfe garbage CUST001 garbage"),
        (None, b'{"customer_id": "CUST001", "cut'),
        (None, '{"customer_id": "CUST001"}'.encode("utf-16")),
        (None, b'\0\0\0\0\x11{"customer_id": "\\u0043UST001"}'),
    ],
)
def test_a_raw_record_of_any_form_names_a_key_wherever_it_stands(key: str | None, payload: bytes | None) -> None:
    assert ADA in mentioned(CUSTOMERS, key, payload)


def test_an_order_is_about_its_customer_whatever_the_column_is_called() -> None:
    assert ADA in mentioned(ORDERS, "O1", b'{"Customer": "CUST001"}')
    assert Name("users", "ada@example.org") in mentioned(USERS, None, b'{"mail": "Ada@Example.org"}')


def test_a_short_key_counts_only_where_it_is_called_so() -> None:
    assert Name("customers", "17") in mentioned(CUSTOMERS, None, b'{"customer_id": 17}')
    assert Name("customers", "17") not in mentioned(CUSTOMERS, None, b'{"age": 17}')


def test_whom_a_record_of_somebody_else_speaks_of_is_not_whose_it_is() -> None:
    assert mentioned(CUSTOMERS, "CUST777", b'{"customer_id": "CUST777", "referred_by": "CUST001"}') == {
        Name("customers", "CUST777")
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"CUST9;x;Ada@Example.org;too;many",
        b"a line,'ada@example.org',\xff",
        b'{"line": "Ada <ada@example.org>, London"}',
        rb'{"line": "ada\u0040example.org"}',
        b'["mailto:ada@example.org?subject=x"]',
        b'{"cut": "ada@example.org',
        b"Ada +4930123456, ADA@EXAMPLE.ORG.",
    ],
)
def test_of_a_line_without_a_key_the_addresses_are_names(payload: bytes) -> None:
    assert address("ada@example.org") in mentioned(CUSTOMERS, None, payload)
    assert address("ada@example.org") not in mentioned(CUSTOMERS, "CUST777", payload)


def test_an_address_says_nothing_where_there_is_a_key_and_is_taken_whole() -> None:
    keyed = b'{"customer_id": "CUST777", "email": "ada@example.org"}'
    assert mentioned(CUSTOMERS, None, keyed) == {Name("customers", "CUST777")}
    for other in (b"x.ada@example.org", b"ada@example.org.uk", b"ada@example.organic", b"ada@example", b"+49301234567"):
        assert {address("ada@example.org"), address("+4930123456")}.isdisjoint(mentioned(CUSTOMERS, None, other))
    assert address("+4930123456") in mentioned(CUSTOMERS, None, b"x;+4930123456;y")


def test_another_key_that_begins_like_it_is_another_one() -> None:
    assert ADA not in mentioned(CUSTOMERS, "CUST0010", b'{"customer_id": "CUST0010"} CUST0010')


@given(key=st.none() | st.text(), payload=st.none() | st.binary() | st.text().map(str.encode))
def test_nothing_that_a_producer_can_send_makes_it_fail(key: str | None, payload: bytes | None) -> None:
    for dataset in (CUSTOMERS, ORDERS, USERS, RECORDS):
        mentioned(dataset, key, payload)


@given(
    key=st.text(st.characters(categories=("L", "N")), min_size=5, max_size=40),
    around=st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=4),
)
def test_a_key_is_found_in_any_member_of_an_object(key: str, around: dict[str, str]) -> None:
    try:
        name = Name("customers", CUSTOMERS.normal_key(key))
    except ValueError:
        return
    assert name in mentioned(CUSTOMERS, None, json.dumps(around | {"id!": key}).encode())
