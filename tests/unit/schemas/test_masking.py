"""A masked text never holds the value, whatever the record is made of; what is harmless stays readable."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.browse import TopicMessage
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import FieldProblem
from schemas.events import ChangeEvent, CleanRecord, FailedRecord, Origin
from schemas.masking import (
    MASK,
    masked_data,
    masked_key,
    masked_message,
    masked_path,
    masked_payload,
    masked_problems,
    masked_row,
)
from schemas.registry import all_datasets, dataset_named
from services.topics.shown import shown

CUSTOMERS, ORDERS, USERS, RECORDS = map(dataset_named, ("customers", "orders", "users", "records"))
PERSONAL = [dataset for dataset in all_datasets() if dataset.personal_fields]
SECRETS = st.text(st.characters(categories=("L", "N")), min_size=8, max_size=20).map(lambda text: f"§{text}§")
"""Values that stand nowhere else by chance."""


def says(shown: bytes | None, secret: str) -> bool:
    text = (shown or b"").decode()
    return secret in text or json.dumps(secret)[1:-1] in text


def test_addresses_are_personal_without_being_declared_and_everything_else_when_it_is() -> None:
    assert CUSTOMERS.personal_fields == {field.name for field in CUSTOMERS.fields} - {"customer_id"}
    assert USERS.personal_fields == {"name", "email"}
    assert ORDERS.personal_fields == frozenset()


@pytest.mark.parametrize("dataset", PERSONAL, ids=lambda dataset: dataset.name)
@given(data=st.data())
def test_no_personal_value_of_a_row_is_shown(dataset: Dataset, data: st.DataObject) -> None:
    row = {field.name: f"<{field.name} {data.draw(SECRETS)}>" for field in dataset.fields}
    seen = json.dumps(masked_row(dataset, row)) + masked_data(dataset, msgspec.json.encode(row)).decode()
    for name, value in row.items():
        assert (json.dumps(value)[1:-1] in seen) == (name not in dataset.personal_fields)


@pytest.mark.parametrize("dataset", PERSONAL, ids=lambda dataset: dataset.name)
@given(data=st.data(), secret=SECRETS)
def test_no_value_of_a_raw_record_is_shown_unless_it_is_known_to_be_harmless(
    dataset: Dataset, data: st.DataObject, secret: str
) -> None:
    names = [field.name for field in dataset.fields]
    columns = data.draw(st.lists(st.sampled_from(["a", "b", "c.d", *names]), min_size=len(names), max_size=len(names)))
    mapping = data.draw(st.none() | st.just(msgspec.json.encode(dict(zip(names, columns, strict=True)))))
    harmless = {
        column
        for name, column in (zip(names, columns, strict=True) if mapping else zip(names, names, strict=True))
        if name not in dataset.personal_fields
    }
    member = data.draw(st.sampled_from([*names, "a", "b", "unheard of"]).filter(lambda name: name not in harmless))
    value: Any = data.draw(st.sampled_from([secret, [secret], {"x": {"y": secret}}, f"x{secret}y"]))
    record = dict.fromkeys(names, "1") | {member: value}
    assert not says(masked_payload(dataset, msgspec.json.encode(record), mapping), secret)
    nested = {name: [secret] for name in names}
    assert not says(masked_payload(dataset, msgspec.json.encode(nested), mapping), secret)


@given(secret=SECRETS, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_what_cannot_be_parsed_is_masked_whole(secret: str, before: bytes, after: bytes) -> None:
    for payload in (before + secret.encode() + after, json.dumps([secret]).encode(), json.dumps(secret).encode()):
        for dataset in (*PERSONAL, None):
            masked = masked_payload(dataset, payload)
            assert masked is not None
            assert not says(masked, secret)
    good = json.dumps({"customer_id": "C1", "email": secret}).encode()
    assert masked_payload(CUSTOMERS, good, b"no mapping") == MASK.encode()


@given(payload=st.none() | st.binary() | st.text().map(str.encode), mapping=st.none() | st.binary())
def test_masking_never_fails(payload: bytes | None, mapping: bytes | None) -> None:
    for dataset in (*all_datasets(), None):
        masked_payload(dataset, payload, mapping)
        masked_data(dataset, payload or b"")


def test_what_is_harmless_stays() -> None:
    payload = b'{"customer_id": "C1", "first_name": "Ada", "phone": null, "vip": true}'
    assert json.loads(masked_payload(CUSTOMERS, payload) or b"") == {
        "customer_id": "C1", "first_name": MASK, "phone": None, "vip": MASK,
    }  # fmt: skip
    mapped = masked_payload(
        CUSTOMERS, b'{"no": "C1", "customer_id": "Ada"}', b'{"customer_id":"no","last_name":"customer_id"}'
    )
    assert json.loads(mapped or b"") == {"no": "C1", "customer_id": MASK}
    order = b'{"order_id": "O1", "anything": ["at", "all"]}'
    assert masked_payload(ORDERS, order) == order
    assert masked_data(CUSTOMERS, b"null") == b"null"


def test_an_address_in_the_place_of_a_key_is_masked_too() -> None:
    assert masked_key(CUSTOMERS, "CUST001") == "CUST001"
    assert masked_key(CUSTOMERS, "ada@example.org") == MASK
    assert masked_key(USERS, "anything") == MASK
    assert b"ada@" not in (masked_payload(CUSTOMERS, b'{"customer_id": "ada@example.org"}') or b"")


def test_a_path_is_logged_without_the_key_of_a_person() -> None:
    assert masked_path("/users/ada@localhost") == f"/users/{MASK}"
    assert masked_path("/trace/users/x/y") == f"/trace/users/{MASK}"
    assert masked_path("/api/customers/CUST001") == f"/api/customers/{MASK}"
    assert masked_path("/datasets/orders/O1") == "/datasets/orders/O1"
    assert masked_path("/api/customers") == "/api/customers"
    assert masked_path("/users/") == "/users/"


def test_a_message_names_fields_and_quotes_none_that_are_personal() -> None:
    problems = [
        {"field": "email", "code": "email_form", "message": "'nobody' is not an e-mail address"},
        {"field": "customer_id", "code": "required", "message": "'customer_id' is null or empty"},
    ]
    told = masked_message(CUSTOMERS, "whatever", problems)
    assert told == f"email: {MASK}; customer_id: 'customer_id' is null or empty"
    assert masked_message(CUSTOMERS, "email 'ada@example.org' belongs to customer_id 'C1'") == MASK
    assert masked_message(ORDERS, "price: 'much' is no number") == "price: 'much' is no number"
    assert [one["message"] for one in masked_problems(None, problems)] == [MASK, MASK]


ORIGIN, SETTINGS = Origin("customers.raw", 0, 1, 2), Settings()


@given(secret=SECRETS)
def test_no_message_of_any_topic_shows_it(secret: str) -> None:
    data = msgspec.Raw(msgspec.json.encode({"customer_id": "C1", "first_name": secret}))
    problem = FieldProblem("first_name", "too_long", secret)
    failed = FailedRecord(
        "customers", "normalizer", "x", secret, ORIGIN, 1, payload=secret.encode(), problems=(problem,)
    )
    header = ("headrace-problem", f"csv_row;{secret}".encode())
    messages = {
        "customers.raw": bytes(data),
        "customers.clean": msgspec.json.encode(CleanRecord("C1", ORIGIN, data)),
        "customers.changed": msgspec.json.encode(ChangeEvent("C1", "stored", 1, ORIGIN, data)),
        "failures": msgspec.json.encode(failed),
        "of.others": msgspec.json.encode({"customer_id": secret}),
    }
    for topic, value in messages.items():
        for content in (value, secret.encode(), f'{{"cut": "{secret}'.encode()):
            key = b"C1" if topic != "of.others" else secret.encode()
            message = TopicMessage(topic, 0, 1, 2, key, content, (header, ("x-remark", secret.encode())))
            plain = msgspec.json.encode(shown(SETTINGS, topic, message))
            masked = msgspec.json.encode(shown(SETTINGS, topic, message, masked=True))
            assert says(plain, secret)
            assert not says(masked, secret)
