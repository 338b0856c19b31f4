"""One raw record in, one clean record or one failure out, whatever comes."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.kafka.clients import MAX_PAYLOAD_BYTES
from schemas.dataset import Dataset
from schemas.events import (
    HEADER_KIND,
    HEADER_MAPPING,
    HEADER_PROBLEM,
    HEADER_RUN,
    HEADER_SOURCE,
    CleanRecord,
    FailedRecord,
    Origin,
)
from schemas.fields import Text
from schemas.registry import all_datasets, dataset_named
from schemas.source_headers import MAX_MAPPING_BYTES
from services.failures.listing import masked_bytes
from stream_processors import normalize as module
from stream_processors.normalize import Normalized, RecordNormalizer, Rejected
from tests.unit.stream_processors.raw_records import RawRecord, customer

NOW = 1_800_000_000_000

json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
headers = st.lists(
    st.tuples(
        st.sampled_from([HEADER_SOURCE, HEADER_KIND, HEADER_RUN, HEADER_MAPPING, HEADER_PROBLEM, "other"]),
        st.one_of(
            st.none(), st.binary(max_size=20), st.sampled_from([b"{}", b'{"name":"a"}', b'{"name":1}', b"[" * 9999])
        ),
    ),
    max_size=5,
)


def clean(record: RawRecord, dataset: str = "customers") -> CleanRecord:
    outcome = RecordNormalizer(dataset_named(dataset)).normalize(record, NOW)
    assert isinstance(outcome, Normalized)
    decoded = msgspec.json.decode(outcome.value, type=CleanRecord)
    assert outcome.key.decode() == decoded.key
    return decoded


def data(record: CleanRecord) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(record.data)
    return decoded


def failure(record: RawRecord, dataset: str = "customers") -> FailedRecord:
    outcome = RecordNormalizer(dataset_named(dataset)).normalize(record, NOW)
    assert isinstance(outcome, Rejected)
    decoded = msgspec.json.decode(outcome.value, type=FailedRecord)
    assert decoded.reason == outcome.reason
    return decoded


def assert_ends_as_one_of_the_two(dataset: Dataset, record: RawRecord) -> None:
    outcome = RecordNormalizer(dataset).normalize(record, NOW)
    message: CleanRecord | FailedRecord
    if isinstance(outcome, Normalized):
        message = msgspec.json.decode(outcome.value, type=CleanRecord)
    else:
        message = msgspec.json.decode(outcome.value, type=FailedRecord)
        assert message.payload == record.value
        assert message.reason
        assert message.message
    assert message.origin == Origin(record.topic, record.partition, record.offset, record.timestamp)
    assert b"\\u0000" not in msgspec.json.encode([message.source, message.kind, message.run, message.key])


every_dataset = pytest.mark.parametrize("dataset", all_datasets(), ids=lambda dataset: dataset.name)


@every_dataset
@given(value=st.none() | st.binary(), key=st.none() | st.binary(), headers=headers)
@example(value=b"[" * 100_000, key=b"\xff\x00", headers=[])
@example(value=b'{"a":' * 100_000, key=None, headers=[])
@example(value=b"1" * 10_000, key=None, headers=[])
@example(value=b'{"customer_id":' + b"9" * 10_000 + b"}", key=None, headers=[])
@example(value=b'{"value":1e99999999999999999999}', key=None, headers=[])
@example(value=b'"\\ud800"', key=None, headers=[])
@example(value=b'{"\\ud800":1}', key=None, headers=[])
def test_any_bytes_end_as_clean_or_failed(
    dataset: Dataset, value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    assert_ends_as_one_of_the_two(dataset, RawRecord(value, headers, key))


@every_dataset
@given(content=st.data(), headers=headers)
def test_any_json_in_the_fields_ends_as_clean_or_failed(
    dataset: Dataset, content: st.DataObject, headers: list[tuple[str, bytes | None]]
) -> None:
    names = [field.name for field in dataset.fields]
    record = content.draw(st.dictionaries(st.sampled_from([*names, "a", "b\x00"]), json_values))
    assert_ends_as_one_of_the_two(dataset, RawRecord(msgspec.json.encode(record), headers))


def test_every_field_is_brought_into_its_normal_form() -> None:
    record = clean(RawRecord(customer()))
    assert record.key == "CUST001"
    assert record.origin == Origin("customers.raw", 3, 42, 1_700_000_000_000)
    assert data(record) == {
        "customer_id": "CUST001",
        "first_name": "Anna",
        "last_name": "Meyer",
        "email": "anna.meyer@example.com",
        "phone": "+49301234567",
        "address": None,
        "date_of_birth": "1980-01-31",
        "account_balance": "12.50",
    }


def test_money_is_read_exactly_from_a_json_number() -> None:
    value = customer().replace(b"12.5", b"9007199254740.995")
    assert data(clean(RawRecord(value)))["account_balance"] == "9007199254741.00"
    value = customer().replace(b"12.5", b"1234567890123.45")
    assert data(clean(RawRecord(value)))["account_balance"] == "1234567890123.45"


def test_a_normalized_record_normalizes_to_itself() -> None:
    once = clean(RawRecord(customer()))
    assert data(clean(RawRecord(bytes(once.data)))) == data(once)


def test_all_problems_are_collected_and_the_first_field_gives_the_reason() -> None:
    failed = failure(RawRecord(customer(email="nobody", first_name=None, phone="x", account_balance="much")))
    assert failed.reason == "required"
    assert [(problem.field, problem.code) for problem in failed.problems] == [
        ("first_name", "required"),
        ("email", "email_form"),
        ("phone", "phone_form"),
        ("account_balance", "number_form"),
    ]
    assert "email: 'nobody' is not an e-mail address" in failed.message


def test_a_failure_keeps_what_came_and_where_it_came_from() -> None:
    sent = [(HEADER_SOURCE, b"crm"), (HEADER_KIND, b"api"), (HEADER_RUN, b"r1")]
    failed = failure(RawRecord(b"{broken", sent, b"CUST001"))
    assert failed.payload == b"{broken"
    assert (failed.dataset, failed.stage, failed.reason) == ("customers", "normalizer", "not_json")
    assert (failed.source, failed.kind, failed.run, failed.key) == ("crm", "api", "r1", "CUST001")
    assert failed.failed_at == NOW


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b'{"a":"\xff"}', "not_json"),
        (b"NaN", "not_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"1", "not_an_object"),
        (b"1.5", "not_an_object"),
        (b"true", "not_an_object"),
        (b"1e99999999999999999999", "not_an_object"),
    ],
)
def test_what_is_no_json_object_is_rejected(value: bytes | None, reason: str) -> None:
    assert failure(RawRecord(value)).reason == reason


def test_a_number_beyond_all_bounds_is_its_fields_problem() -> None:
    value = customer().replace(b"12.5", b"1e99999999999999999999")
    failed = failure(RawRecord(value))
    assert [(problem.field, problem.code) for problem in failed.problems] == [("account_balance", "number_form")]


def test_a_mapping_says_which_column_a_field_is_read_from() -> None:
    sent = [(HEADER_MAPPING, b'{"customer_id":"id","email":"mail"}')]
    value = msgspec.json.encode(
        {"id": 7, "mail": "a@b.co", "first_name": "A", "last_name": "B", "email": "x", "shoe": 43}
    )
    record = clean(RawRecord(value, sent))
    assert (record.key, data(record)["email"], data(record)["first_name"]) == ("7", "a@b.co", "A")
    assert record.unknown == ("shoe",)


@pytest.mark.parametrize(
    "mapping",
    [b'{"last_name":"account_balance"}', b'{"last_name":"account_balance"}' + b" " * MAX_MAPPING_BYTES + b"x"],
)
def test_a_failure_keeps_the_mapping_that_tells_what_of_its_payload_is_personal(mapping: bytes) -> None:
    payload = b'{"account_balance": "Lovelace", "customer_id": "C1"}'
    failed = failure(RawRecord(payload, [(HEADER_MAPPING, mapping)]))
    kept = {"dataset": failed.dataset, "raw_headers": failed.headers}
    assert b"Lovelace" not in (masked_bytes(kept, failed.payload) or b"Lovelace")


@pytest.mark.parametrize("mapping", [b"{", b"[]", b'{"email":1}', b'{"shoe":"size"}', b"\xff", b"[" * 100_000])
def test_a_bad_mapping_fails_its_record(mapping: bytes) -> None:
    assert failure(RawRecord(customer(), [(HEADER_MAPPING, mapping)])).reason == "bad_mapping"


def test_the_source_fills_in_what_the_record_lacks() -> None:
    value = msgspec.json.encode({"source_id": 1, "name": "x"})
    pushed = clean(RawRecord(value), "records")
    assert (pushed.key, pushed.kind, pushed.source) == ("push:1", "push", "push")
    named = clean(RawRecord(value, [(HEADER_SOURCE, b"titanic"), (HEADER_KIND, b"csv")]), "records")
    assert (named.key, data(named)["source"], data(named)["source_name"]) == ("titanic:1", "csv", "titanic")
    own = msgspec.json.encode({"source_id": 1, "name": "x", "source_name": "mine"})
    assert clean(RawRecord(own, [(HEADER_SOURCE, b"titanic")]), "records").key == "mine:1"


@pytest.mark.parametrize(
    ("header", "reason", "message"),
    [
        (b"ragged_row;7 columns, expected 5", "ragged_row", "7 columns, expected 5"),
        (b"ragged_row", "ragged_row", "the producer could not read this record"),
        (b";", "unreadable", "the producer could not read this record"),
        (b"\xff\x00", "\ufffd\ufffd", "the producer could not read this record"),
    ],
)
def test_a_record_that_its_producer_could_not_read_is_a_failure(header: bytes, reason: str, message: str) -> None:
    failed = failure(RawRecord(customer(), [(HEADER_PROBLEM, header)]))
    assert (failed.reason, failed.message) == (reason, message)


def test_headers_that_no_store_can_hold_are_repaired() -> None:
    record = clean(RawRecord(customer(), [(HEADER_SOURCE, b"a\xff\x00b"), (HEADER_RUN, None)]))
    assert (record.source, record.run) == ("a\ufffd\ufffdb", None)


def test_unknown_fields_are_named_but_not_without_limit() -> None:
    record = clean(RawRecord(customer(shoe=43, hat=7)))
    assert record.unknown == ("hat", "shoe")
    assert "shoe" not in data(record)
    flooded = clean(RawRecord(customer(**{f"x{n}" * 100: n for n in range(1000)})))
    assert len(flooded.unknown) == module.MAX_UNKNOWN_NAMES
    assert max(map(len, flooded.unknown)) == 100


def test_a_failure_fits_the_broker_however_large_its_record() -> None:
    failed = failure(RawRecord(b"x" * (MAX_PAYLOAD_BYTES + 1), key=b"k" * 1_000_000))
    assert failed.payload == b"x" * MAX_PAYLOAD_BYTES
    assert f"first {MAX_PAYLOAD_BYTES} of {MAX_PAYLOAD_BYTES + 1} bytes kept" in failed.message
    assert len(failed.key or "") == module.MAX_KEY_BYTES


def test_a_record_too_large_when_normalized_is_a_failure() -> None:
    failed = failure(RawRecord(customer(address="ä" * (module.MAX_OUTPUT_BYTES // 2))))
    assert failed.reason == "too_large"


def test_a_mistake_of_ours_is_not_taken_for_a_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Text, value: object) -> str:
        raise TypeError(f"a bug: {value}")

    monkeypatch.setattr(Text, "normalize", broken)
    with pytest.raises(TypeError, match="a bug"):
        RecordNormalizer(dataset_named("customers")).normalize(RawRecord(customer()), NOW)


def test_an_error_that_hostile_input_provokes_is_that_fields_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(_: Text, value: object) -> str:
        raise OverflowError(f"too much: {value}")

    monkeypatch.setattr(Text, "normalize", overflowing)
    assert failure(RawRecord(customer())).problems[0].code == "unreadable_value"


def test_sources_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SOURCES_CACHED", 10)
    normalizer = RecordNormalizer(dataset_named("customers"))
    for number in range(35):
        run = str(number).encode()
        outcome = normalizer.normalize(RawRecord(customer(), [(HEADER_RUN, run)]), NOW)
        assert msgspec.json.decode(outcome.value, type=CleanRecord).run == run.decode()
    assert len(normalizer._plans) <= 10
