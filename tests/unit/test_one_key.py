"""The Kafka key that a producer gives a record is the key under which the normalizer keeps it, whatever is sent."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producers.record_key import JsonRecordKey, RecordKey
from producers.source import SourceDescription
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_SOURCE, CleanRecord
from schemas.field_reading import encode_mapping
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer
from tests.unit.schemas.json_values import scalars, texts
from tests.unit.stream_processors.raw_records import CUSTOMER, RawRecord

SOURCES = {
    "crm": SourceDescription("crm", "api", dataset_named("customers")),
    "shop": SourceDescription("shop", "api", dataset_named("records"), {"source_id": "id", "name": "title"}),
    "deep": SourceDescription("deep", "api", dataset_named("records"), {"source_id": "a.id", "name": "a.title"}),
}
NORMALIZERS = {name: RecordNormalizer(source.dataset) for name, source in SOURCES.items()}

MARKS = st.text(alphabet="\ufeff\u200b\u200d\u00ad\u2060\u202a\u00a0", max_size=2)
keys = st.one_of(scalars, texts, st.text(max_size=300), st.builds("{}{}{}".format, MARKS, st.just("A 1"), MARKS))
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


def kept_key(name: str, value: bytes) -> str | None:
    """The normalizer's key; None for a failure."""
    source = SOURCES[name]
    mapping = encode_mapping(source.field_readings())
    headers = [(HEADER_SOURCE, name.encode()), (HEADER_KIND, source.kind.encode()), (HEADER_MAPPING, mapping)]
    outcome = NORMALIZERS[name].normalize(RawRecord(value, headers), 0)
    return msgspec.json.decode(outcome.value, type=CleanRecord).key if isinstance(outcome, Normalized) else None


@pytest.mark.parametrize("name", SOURCES)
@given(data=st.data(), key=keys, other=keys, marks=MARKS, encoding=encodings)
def test_the_key_of_a_producer_is_that_of_the_normalizer(
    name: str, data: st.DataObject, key: object, other: object, marks: str, encoding: str
) -> None:
    def marked(text: str) -> str:
        at = data.draw(st.integers(0, len(text)))
        return text[:at] + marks.replace("\u00a0", "") + text[at:]

    if name == "crm":
        record: dict[str, Any] = {**CUSTOMER, marked("customer_id"): key}
    else:
        record = {marked("id"): key, marked("title"): "x"}
        record = {marked("a"): record} if name == "deep" else record | {marked("source_name"): other}
    try:
        value = msgspec.json.encode(record).decode().encode(encoding)
    except (UnicodeError, ValueError):
        return
    ours = kept_key(name, value)
    if ours is not None:
        assert JsonRecordKey(SOURCES[name]).of(value) == ours


@given(key=texts | st.text(min_size=180, max_size=300))
@example(key="\ufeffA\u00a01\u200b")
def test_the_key_of_a_row_is_that_of_the_normalizer(key: str) -> None:
    try:
        value = msgspec.json.encode({"id": key, "title": "x"})
    except UnicodeEncodeError:
        return
    ours = kept_key("shop", value)
    if ours is not None:
        assert RecordKey(SOURCES["shop"]).of([None, key]) == ours


@pytest.mark.parametrize(
    "written",
    [
        b'{"customer_id": "A 1"}',
        '\ufeff{"customer_id": "A\u00a01"}'.encode(),
        '{"\ufeffcustomer_id": "A 1\u200b"}'.encode(),
        b'{"\\ufeffcustomer\\u200b_id": "A\\u00ad 1"}',
        '{"customer_id": "A 1"}'.encode("utf-16"),
        '{"cust\u00adomer_id": "\u202aA 1\u202c", "x": "é"}'.encode(),
    ],
)
def test_invisible_characters_and_encodings_do_not_change_a_records_key(written: bytes) -> None:
    assert JsonRecordKey(SOURCES["crm"]).of(written) == "A 1"
