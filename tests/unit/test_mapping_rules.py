"""What a block says of its fields is what the normalizer does with its records, and with their keys."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.raw_headers import RawHeaders
from producers.record_key import JsonRecordKey, RecordKey
from producers.source import SourceDescription, key_columns
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
    return RawHeaders(source, "run").of(0, None)


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


PARTS = st.text(st.sampled_from("ab|\\\\ ,:"), max_size=4)


@given(PARTS, PARTS, PARTS, PARTS)
def test_keys_of_several_columns_are_equal_only_where_each_column_is(a: str, b: str, c: str, d: str) -> None:
    source = described(dataset="records", key=["a", "b"], defaults={"name": "x"})
    key = RecordKey(source).of
    tidied = [" ".join(part.split()) for part in (a, b, c, d)]
    assert (key([None, a, b]) == key([None, c, d])) == (tidied[:2] == tidied[2:])


@pytest.mark.parametrize(
    ("record", "source_id"),
    [
        ({"a": "a|b", "b": "c"}, r"a\|b|c"),
        ({"a": "a", "b": "b|c"}, r"a|b\|c"),
        ({"a": r"a\\"[:-1], "b": "c"}, r"a\\|c"),
        ({"a": 7, "b": 1.5}, "7|1.5"),
        ({"a": " x  y ", "b": ""}, "x y|"),
        ({"b": "y"}, "|y"),
        ({"a": "", "b": None}, None),
        ({}, None),
        ({"a": ["x"], "b": "y"}, None),
        ({"a": True, "b": "y"}, None),
    ],
)
def test_a_key_of_several_columns_is_told_alike_by_producers_and_normalizer(
    record: dict[str, Any], source_id: str | None
) -> None:
    source = described("api", dataset="records", key=["a", "b"], defaults={"name": "x"})
    found = outcome(source, record)
    key = found.key if isinstance(found, CleanRecord) else None
    assert JsonRecordKey(source).of(msgspec.json.encode(record)) == key
    assert key == (None if source_id is None else f"shop:{source_id}")
    if isinstance(found, FailedRecord):
        assert [problem.field for problem in found.problems] == ["source_id"]


def test_a_key_of_several_columns_reaches_into_nested_objects_and_knows_their_columns() -> None:
    source = described("api", dataset="records", key=["at.day", "station"], defaults={"name": "x"})
    clean = outcome(source, {"at": {"day": "2024-01-31"}, "station": "KEW", "wind": 3})
    assert isinstance(clean, CleanRecord)
    assert (clean.key, clean.unknown) == ("shop:2024-01-31|KEW", ("wind",))


def test_the_command_line_names_several_columns_as_a_header_does() -> None:
    assert key_columns("station,date") == ("station", "date")
    assert key_columns('"Surname, name", born') == ("Surname, name", "born")
    assert key_columns("@row") == ("@row",)


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


@pytest.mark.parametrize("nothing", ["NA", " n/a ", "#N/A", "NaN", "null", "None", "\\N", "<NA>"])
@pytest.mark.parametrize("kind", ["csv", "api"])
def test_what_programs_write_for_nothing_is_nothing_in_fields_that_cannot_read_it(kind: str, nothing: str) -> None:
    records = described(kind, dataset="records", key="No")
    kept = stored(records, {"No": "1", "name": nothing, "value": nothing, "description": nothing})
    assert (kept["name"], kept["value"], kept["description"]) == (nothing.strip(), None, nothing.strip())
    customer = CUSTOMER | {"phone": nothing, "date_of_birth": nothing, "account_balance": nothing}
    kept = stored(described(kind, dataset="customers"), customer)
    assert (kept["phone"], kept["date_of_birth"], kept["account_balance"]) == (None, None, None)
    order = {"order_id": "O", "customer_id": "C", "product": "P", "price": "1", "order_date": nothing}
    orders = described(kind, dataset="orders")
    assert failed(orders, order).reason == "required"
    assert stored(orders, order | {"order_date": "2024-01-31", "quantity": nothing})["quantity"] == 1


def test_a_source_says_what_means_nothing_in_it() -> None:
    source = described(
        dataset="records", key="No", nulls=["-999", "n.d."], text_nulls=["\\N"], required=["description"]
    )
    record = {"No": "1", "name": "NA", "value": "-999", "description": "n.d."}
    kept = stored(source, record)
    assert (kept["name"], kept["value"], kept["description"]) == ("NA", None, "n.d.")
    assert set(source.readings) == {"source_id", "name", "value", "description"}
    assert stored(source, record | {"value": " N.D. "})["value"] is None
    assert failed(source, record | {"value": "NA"}).reason == "number_form"
    assert failed(source, record | {"description": "\\N"}).reason == "required"
    assert failed(described(dataset="records", key="No", nulls=[]), record | {"value": "NA"}).reason == "number_form"


def test_a_default_stands_in_for_what_means_nothing_too() -> None:
    rules: dict[str, Any] = {"defaults": {"value": "1.234", "name": "x"}, "nulls": ["1.234"], "decimal": ","}
    assert stored(described(dataset="records", key="No", **rules), {"No": "1", "value": "1.234"})["value"] == "1.2340"


def test_numbers_of_a_csv_file_whose_decimal_mark_nobody_knows_are_read_if_they_can_mean_one_thing_only() -> None:
    source = described(dataset="records", key="No", defaults={"name": "x"})
    alone = {"12,5": "12.5000", "12.5": "12.5000", "1.234,5": "1234.5000", "1,234.5": "1234.5000", "0,125": "0.1250",
             "1,234,567": "1234567.0000", "1.234.567": "1234567.0000",
             "1234,567": "1234.5670", "1 234,567": "1234.5670",
             "1.5e3": "1500.0000", "(0,5)": "-0.5000", "17": "17.0000"}  # fmt: skip
    assert {text: stored(source, {"No": "1", "value": text})["value"] for text in alone} == alone
    for text in ("1,234", "1.234", "-12,345", "+999.000", "€ 1,200"):
        failure = failed(source, {"No": "1", "value": text})
        assert (failure.reason, "set `decimal`" in failure.message) == ("ambiguous_number", True)
    said = described(dataset="records", key="No", defaults={"name": "x"}, decimal=".")
    assert stored(said, {"No": "1", "value": "1,234"})["value"] == "1234.0000"


def test_counts_heed_the_decimal_mark_too() -> None:
    order = {"order_id": "O", "customer_id": "C", "product": "P", "price": "1", "order_date": "2024-01-31"}
    german = described(dataset="orders", decimal=",")
    assert stored(german, order | {"quantity": "1.000"})["quantity"] == 1000
    assert failed(described(dataset="orders"), order | {"quantity": "1.000"}).reason == "ambiguous_number"


def test_a_source_without_rules_has_the_mapping_header_that_it_always_had() -> None:
    plain = dict(headers_of(described("api", dataset="records", map={"source_id": "No", "name": "Name"})))
    assert msgspec.json.decode(plain[HEADER_MAPPING] or b"") == {"source_id": "No", "name": "Name"}
    assert HEADER_MAPPING not in dict(headers_of(described("api", dataset="customers")))


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
        ({"nulls": [""]}, "nulls.0 = ''"),
        ({"nulls": "NA"}, "nulls = 'NA'"),
        ({"text_nulls": [1]}, "text_nulls.0 = 1"),
        ({"skip_lines": -1}, "skip_lines = -1"),
        ({"escape": "ab"}, "escape = 'ab'"),
        ({"key": ["a", "a"]}, "names a column twice"),
        ({"key": ["a", ""]}, "key.1 = ''"),
        ({"key": ["a", "b"], "map": {"source_id": "a"}}, "key = ['a', 'b'] contradicts map.source_id = 'a'"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_with_the_setting(block: dict[str, Any], message: str) -> None:
    with pytest.raises(SourcesError) as refusal:
        described(dataset="records", **block)
    assert message in str(refusal.value)
