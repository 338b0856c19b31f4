"""The quick way of plain records and the general way: the same bytes and the same errors, whatever comes."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.dataset import Dataset
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_RUN, HEADER_SOURCE
from schemas.plain_reading import PlainReading
from schemas.reading_plan import ReadingPlan
from schemas.registry import all_datasets, dataset_named
from schemas.source_headers import Headers
from stream_processors.normalize import Normalized, RecordNormalizer
from tests.unit.schemas.json_values import texts
from tests.unit.stream_processors.raw_records import CUSTOMER, RawRecord, customer

NOW = 1_800_000_000_000


class GeneralNormalizer(RecordNormalizer):
    """Takes the general way for every record."""

    def _plan_of(self, headers: Headers) -> ReadingPlan:
        return super()._plan_of(headers)._replace(plain=None)


def assert_same(dataset: Dataset, *records: RawRecord) -> None:
    quick, general = RecordNormalizer(dataset), GeneralNormalizer(dataset)
    for record in records:
        assert quick.normalize(record, NOW) == general.normalize(record, NOW)


members = st.one_of(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False),
    texts.filter(lambda text: text != "\ud800"),
    st.sampled_from(
        ["Ada", " Ada  L ", "Müller", "e\u0301", "A:B", "\u200bx", "NULL", "n/a", "Ada@Example.org", "+49 30 1234567",
         "030 1234567", "2024-01-31", "31.1.2024", "12.50", "1,5", "007", "", " ", "x" * 300, [], {}, [1], {"a": 1}]
    ),
)  # fmt: skip


@st.composite
def objects(draw: st.DrawFn, names: list[str]) -> bytes:
    """JSON objects of most of these members, now and then with one twice, a stranger, or spelled with escapes."""
    parts = []
    for name in draw(st.permutations(names)):
        if draw(st.integers(0, 9)):
            value = msgspec.json.encode(draw(members)).decode()
            written = f'"{name}"' if draw(st.integers(0, 9)) else f'"\\u{ord(name[0]):04x}{name[1:]}"'
            parts.append(f"{written}: {value}" if draw(st.booleans()) else f"{written}:{value}")
    odd = [
        '"stranger":1',
        f'"{names[0]}":"again"',
        f'"{names[-1]}":null',
        f'"{names[0]}\u200b":"marked"',
        '"a\\u003ab":1',
    ]
    parts += draw(st.lists(st.sampled_from(odd), max_size=1))
    text = "{" + ", ".join(parts) + "}"
    return draw(st.sampled_from(["", "", "", "\ufeff", " ", "["])).encode() + text.encode()


@pytest.mark.parametrize("dataset", all_datasets(), ids=lambda dataset: dataset.name)
@given(content=st.data())
def test_any_record_is_read_the_same_either_way(dataset: Dataset, content: st.DataObject) -> None:
    names = [field.name for field in dataset.fields]
    columns = content.draw(st.permutations([*names, "c", 'q"', "é", "a.b"]))
    mapping = dict(zip(names, columns, strict=False)) if content.draw(st.booleans()) else {}
    fields: list[dict[str, Any]] = [{}, {"nulls": ["n/a", "Ada"]}, {"required": True}, {"decimal": ","}]
    readings = {name: {"from": mapping.get(name, name)} | content.draw(st.sampled_from(fields)) for name in names}
    headers = (
        (HEADER_SOURCE, b"shop"), (HEADER_KIND, b"api"), (HEADER_MAPPING, msgspec.json.encode(readings)),
        ("ce_id", b"1"),
    )  # fmt: skip
    value = content.draw(objects([mapping.get(name, name) for name in names]))
    assert_same(dataset, RawRecord(value, content.draw(st.sampled_from([(), headers]))))


@given(value=st.binary())
@example(value=b"{}")
@example(value=b'{"customer_id":1}')
@example(value=customer() + b" ")
@example(value=b'{"customer_id":' + b"[" * 5000)
def test_any_bytes_are_read_the_same_either_way(value: bytes) -> None:
    assert_same(dataset_named("customers"), RawRecord(value))


def test_an_object_with_a_key_twice_is_not_plain() -> None:
    record = customer(address="12 Long Street")
    for again in (b',"email":"b@example.org"}', b',"emai\\u006c":"b@example.org"}'):
        outcome = RecordNormalizer(dataset_named("customers")).normalize(RawRecord(record[:-1] + again), NOW)
        assert b"duplicate_key" in outcome.value
    # One member is missing and one is there twice: as many colons as there are fields.
    missing = msgspec.json.encode({name: value for name, value in CUSTOMER.items() if name != "phone"})
    outcome = RecordNormalizer(dataset_named("customers")).normalize(RawRecord(missing[:-1] + again), NOW)
    assert b"duplicate_key" in outcome.value


def test_most_records_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    read, plain = PlainReading.read, []

    def noted(self: PlainReading, value: bytes) -> Any:
        plain.append((values := read(self, value)) is not None)
        return values

    monkeypatch.setattr(PlainReading, "read", noted)
    for record in (customer(), customer(address="Hauptstraße 1", phone=None), customer(account_balance="12.345")):
        assert isinstance(RecordNormalizer(dataset_named("customers")).normalize(RawRecord(record), NOW), Normalized)
    assert plain == [True] * 3


def test_headers_like_those_of_the_record_before_are_read_all_the_same() -> None:
    def headers(*pairs: tuple[str, bytes | None]) -> RawRecord:
        return RawRecord(customer(), pairs)

    a, b, run = (HEADER_SOURCE, b"a"), (HEADER_SOURCE, b"b"), (HEADER_RUN, b"1")
    first, second = ("ce_id", b"1"), ("ce_id", b"2")
    rows = [(), (a,), (a, run), (a, first), (a, second), (b, second), (a,), (a, b), (a, run), (first, a), (first, b),
            (a, first)]  # fmt: skip
    one = RecordNormalizer(dataset_named("customers"))
    for row in rows:
        alone = RecordNormalizer(dataset_named("customers")).normalize(headers(*row), NOW)
        assert one.normalize(headers(*row), NOW) == alone
