"""Setting fields in the payload of a failure."""

import json

import pytest

from schemas.registry import dataset_named
from services.failures.editing import with_fields
from services.failures.raw_records import json_headers
from services.renormalizing import Headers, RawRecord, Verdict, verdict_on
from stores.failure_states import CannotEdit

CUSTOMERS = dataset_named("customers")
MAPPING = (("headrace-mapping", b'{"email":"E-Mail"}'),)


def test_a_field_is_written_to_the_column_that_the_mapping_names() -> None:
    edited = with_fields(b'{"E-Mail":"x","n":1.10}', MAPPING, {"email": "a@b.org"}, CUSTOMERS)
    assert json.loads(edited) == {"E-Mail": "a@b.org", "n": "1.10"}


def test_a_column_of_the_record_can_be_named_too() -> None:
    assert json.loads(with_fields(b'{"E-Mail":"x"}', MAPPING, {"E-Mail": None}, CUSTOMERS)) == {"E-Mail": None}


def test_byte_order_marks_before_a_payload_and_in_its_names_are_ignored() -> None:
    for payload in ('\ufeff{"E-\u200bMail":"x"}'.encode(), '{"\ufeffE-Mail":"x"}'.encode("utf-16")):
        assert json.loads(with_fields(payload, MAPPING, {"email": "a@b.org"}, CUSTOMERS)) == {"E-Mail": "a@b.org"}


@pytest.mark.parametrize("payload", [None, b"", b"not json", b"[1]", b"\xff\xfe"])
def test_no_field_can_be_set_in_a_payload_that_is_no_object(payload: bytes | None) -> None:
    with pytest.raises(CannotEdit, match="--file"):
        with_fields(payload, (), {"email": "a@b.org"}, CUSTOMERS)


def test_an_unknown_field_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(CannotEdit, match="customer_id"):
        with_fields(b"{}", (), {"emial": "a@b.org"}, CUSTOMERS)


def test_a_key_joined_from_columns_is_edited_in_these_columns() -> None:
    mapping = (("headrace-mapping", b'{"customer_id":{"columns":["shop","no"]}}'),)
    with pytest.raises(CannotEdit, match="customer_id is joined from shop, no; set these"):
        with_fields(b'{"shop":"a","no":""}', mapping, {"customer_id": "a|1"}, CUSTOMERS)
    assert json.loads(with_fields(b'{"shop":"a","no":""}', mapping, {"no": "1"}, CUSTOMERS)) == {"shop": "a", "no": "1"}


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(CannotEdit, match="surrogates not allowed"):
        with_fields(b"{}", (), {"first_name": "\udc80"}, CUSTOMERS)


def test_a_replaced_value_is_readable_again_and_keeps_its_mapping() -> None:
    headers = (*MAPPING, ("headrace-problem", b"row_form"), ("content-type", b"application/octet-stream"))
    assert json_headers(headers) == (*MAPPING, ("content-type", b"application/json"))


def verdict(value: bytes, headers: Headers) -> Verdict:
    return verdict_on(CUSTOMERS, RawRecord("", 0, 0, 0, None, value, headers))


def test_a_verdict_names_every_problem_or_the_key() -> None:
    wrong = verdict(b'{"customer_id":"A","first_name":"","last_name":"","email":"x"}', ())
    assert (wrong.key, {problem.field for problem in wrong.problems}) == (None, {"first_name", "last_name", "email"})
    right = b'{"customer_id":"A","first_name":"B","last_name":"C","E-Mail":"a@b.org"}'
    assert verdict(right, MAPPING).key == "A"
