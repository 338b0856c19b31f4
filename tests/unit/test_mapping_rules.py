"""What a block says of its fields is what the normalizer does with its records, and with their keys."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from producers.raw_headers import RawHeaders
from producers.record_key import JsonRecordKey
from producers.source import SourceDescription
from producers.sources import SourcesError, build_source
from runtime.settings import Settings
from schemas.events import HEADER_MAPPING, CleanRecord, FailedRecord
from stream_processors.normalize import Normalized, RecordNormalizer
from tests.unit.stream_processors.raw_records import RawRecord

CUSTOMER = {"customer_id": "C1", "first_name": "Ada", "last_name": "Byron", "email": "ada@example.com"}


def described(kind: str = "csv", **block: Any) -> SourceDescription:
    where = {"path": "a.csv"} if kind == "csv" else {"url": "http://h/x"}
    return build_source("shop", {"kind": kind, **where, **block}, Settings(), Path()).description


def outcome(source: SourceDescription, record: dict[str, Any]) -> CleanRecord | FailedRecord:
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in headers_of(source)]
    raw = RawRecord(msgspec.json.encode(record), headers)
    found = RecordNormalizer(source.dataset).normalize(raw, 0)
    if isinstance(found, Normalized):
        return msgspec.json.decode(found.value, type=CleanRecord)
    return msgspec.json.decode(found.value, type=FailedRecord)


def headers_of(source: SourceDescription) -> list[tuple[str, str | bytes | None]]:
    return RawHeaders(source, "application/json", "run").of(0, None)


def stored(source: SourceDescription, record: dict[str, Any]) -> dict[str, Any]:
    clean = outcome(source, record)
    assert isinstance(clean, CleanRecord), clean
    data: dict[str, Any] = msgspec.json.decode(clean.data)
    return data


def failed(source: SourceDescription, record: dict[str, Any]) -> FailedRecord:
    failure = outcome(source, record)
    assert isinstance(failure, FailedRecord), failure
    return failure


@pytest.mark.parametrize("missing", [{}, {"Price": None}, {"Price": "  "}])
def test_a_default_stands_in_for_what_is_missing_null_or_empty(missing: dict[str, Any]) -> None:
    source = described(dataset="records", key="No", map={"value": "Price"}, defaults={"value": 1.5, "name": "nameless"})
    found = stored(source, {"No": 1, **missing})
    assert (found["value"], found["name"]) == ("1.5000", "nameless")
    assert stored(source, {"No": 1, "Price": "2", "name": "A"})["value"] == "2.0000"


def test_a_default_does_not_hide_a_value_that_is_wrong() -> None:
    source = described(dataset="records", key="No", defaults={"value": 1, "name": "x"})
    assert failed(source, {"No": 1, "value": "much"}).reason == "number_form"


def test_a_field_that_a_source_requires_is_a_failure_where_it_is_missing() -> None:
    source = described(dataset="customers", required=["phone"])
    failure = failed(source, CUSTOMER | {"phone": " "})
    assert (failure.reason, [problem.field for problem in failure.problems]) == ("required", ["phone"])
    assert stored(source, CUSTOMER | {"phone": "+4930123456"})["phone"] == "+4930123456"
    assert stored(described(dataset="customers"), CUSTOMER)["phone"] is None


def test_a_telephone_number_without_a_country_code_is_one_of_the_sources_region() -> None:
    american = CUSTOMER | {"phone": "(404) 555-0189"}
    assert stored(described(dataset="customers", region="US"), american)["phone"] == "+14045550189"
    failure = failed(described(dataset="customers"), american)
    assert (failure.reason, failure.problems[0].field) == ("ambiguous_phone", "phone")


def test_a_region_that_is_none_makes_a_header_a_bad_mapping() -> None:
    raw = RawRecord(msgspec.json.encode(CUSTOMER), [(HEADER_MAPPING, b'{"phone": {"region": "Atlantis"}}')])
    found = RecordNormalizer(described(dataset="customers").dataset).normalize(raw, 0)
    assert msgspec.json.decode(found.value, type=FailedRecord).reason == "bad_mapping"


def test_a_dotted_name_reaches_into_nested_objects_and_arrays() -> None:
    source = described(
        "api", dataset="records", map={"source_id": "meta.id", "name": "authors.1.name", "description": "a.b"}
    )
    authors = [{"name": "A"}, {"name": "B"}]
    record = {"meta": {"id": 7}, "authors": authors, "a.b": "plain", "a": {"b": "nested"}, "x": 1}
    clean = outcome(source, record)
    assert isinstance(clean, CleanRecord)
    found = msgspec.json.decode(clean.data)
    assert (clean.key, found["name"], found["description"]) == ("shop:7", "B", "plain")
    assert clean.unknown == ("x",)


@pytest.mark.parametrize("authors", [None, {}, [], [{}], "text", 7, [[1], {"name": {"first": "B"}}]])
def test_a_path_that_leads_nowhere_is_a_missing_field_or_one_of_the_wrong_type(authors: Any) -> None:
    source = described("api", dataset="records", map={"source_id": "id", "name": "authors.1.name"})
    assert failed(source, {"id": 1, "authors": authors}).reason in {"required", "wrong_type"}


@pytest.mark.parametrize(
    "record",
    [
        {"meta": {"id": 7}},
        {"meta.id": 7},
        {"meta.id": None, "meta": {"id": "a b"}},
        {"meta": [1]},
        {"meta": {"id": 1.10}},
        {"meta": {"id": {"x": 1}}},
    ],
)
def test_the_key_of_a_nested_record_is_the_one_that_the_normalizer_finds(record: dict[str, Any]) -> None:
    source = described("api", dataset="records", map={"source_id": "meta.id"}, defaults={"name": "x"})
    found = outcome(source, record)
    key = JsonRecordKey(source).of(msgspec.json.encode(record))
    assert key == (found.key if isinstance(found, CleanRecord) else None)


def test_dates_with_two_readings_are_failures_until_the_block_says_how_they_are_meant() -> None:
    record = CUSTOMER | {"date_of_birth": "01/02/1990"}
    failure = failed(described(dataset="customers"), record)
    assert failure.reason == "ambiguous_date"
    assert "`dates`" in failure.message
    assert stored(described(dataset="customers", dates="day_first"), record)["date_of_birth"] == "1990-02-01"
    assert stored(described(dataset="customers", dates="month_first"), record)["date_of_birth"] == "1990-01-02"


def test_a_csv_with_decimal_commas_says_so_and_its_default_is_written_with_a_point() -> None:
    source = described(dataset="records", key="No", decimal=",", defaults={"value": 0.5, "name": "x"})
    assert stored(source, {"No": "1", "value": "1.234,56"})["value"] == "1234.5600"
    assert stored(source, {"No": "1", "value": ""})["value"] == "0.5000"
    assert failed(source, {"No": "1", "value": "1.5"}).reason == "number_form"


def test_a_source_without_rules_has_the_mapping_header_that_it_always_had() -> None:
    plain = dict(headers_of(described(dataset="records", map={"source_id": "No", "name": "Name"})))
    assert msgspec.json.decode(plain[HEADER_MAPPING] or b"") == {"source_id": "No", "name": "Name"}
    assert HEADER_MAPPING not in dict(headers_of(described(dataset="customers")))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"defaults": {"shoe": 1}}, "defaults: dataset records has no field 'shoe'"),
        ({"required": ["shoe"]}, "required: dataset records has no field 'shoe'"),
        ({"defaults": {"source_id": 1}}, "defaults: source_id is part of the key"),
        ({"defaults": {"value": "much"}}, "defaults.value = 'much': 'much' is not a number"),
        ({"defaults": {"value": " "}}, "defaults.value is empty"),
        ({"defaults": {"value": 1}, "required": ["value"]}, "required: value has a default"),
        ({"dates": "backwards"}, "dates = 'backwards'"),
        ({"decimal": ";"}, "decimal = ';'"),
        ({"region": "us"}, "region = 'us': 'us' is no country's two capitals"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_with_the_setting(block: dict[str, Any], message: str) -> None:
    with pytest.raises(SourcesError) as refusal:
        described(dataset="records", **block)
    assert message in str(refusal.value)
