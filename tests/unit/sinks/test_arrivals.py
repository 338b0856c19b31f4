from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidRecord
from schemas.events import CleanRecord, Origin
from schemas.registry import dataset_named
from sinks.postgres.arrivals import copy_row, decode_arrival, newest_per_key

RECORDS = dataset_named("records")
ORIGIN = Origin("records.raw", 0, 1, 1)
DATA = {"source": "csv", "source_name": "s", "source_id": "1", "name": "Ø", "value": "1.0000", "description": None}


def clean(data: Mapping[str, object], key: str = "s:1", origin: Origin = ORIGIN) -> bytes:
    return msgspec.json.encode(CleanRecord(key, origin, msgspec.Raw(msgspec.json.encode(data))))


def unescape(field: str) -> str | None:
    if field == r"\N":
        return None
    letters = iter(field)
    special = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    return "".join([special[next(letters)] if letter == "\\" else letter for letter in letters])


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1))
def test_every_text_comes_back_out_of_its_copy_line(values: list[str | None]) -> None:
    line = copy_row(values)
    assert "\n" not in line
    assert [unescape(field) for field in line.split("\t")] == values


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_the_line_of_an_arrival_is_escaped_where_its_text_needs_it(text: str) -> None:
    row = decode_arrival(RECORDS, clean(DATA | {"name": text})).row
    assert [unescape(field) for field in row.split("\t")][:6] == ["csv", "s", "1", text, "1.0000", None]


def test_an_arrival_has_its_row_and_the_bytes_it_came_as() -> None:
    arrival = decode_arrival(RECORDS, clean(DATA))
    assert arrival.row == "csv\ts\t1\tØ\t1.0000\t\\N\tø"
    assert msgspec.json.decode(arrival.data) == DATA


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b"\xff",
        clean(DATA | {"extra": 1}),
        clean({name: value for name, value in DATA.items() if name != "name"}),
        clean(DATA, key="other:1"),
    ],
)
def test_what_no_normalizer_wrote_is_an_invalid_record(value: bytes | None) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_arrival(RECORDS, value)
    assert caught.value.reason == "clean_form"


def test_offsets_decide_within_a_partition_and_time_across_partitions() -> None:
    assert Origin("t", 0, 2, 1).is_newer_than(Origin("t", 0, 1, 9))
    assert Origin("t", 1, 1, 9).is_newer_than(Origin("t", 0, 5, 8))
    assert Origin("t", 1, 1, 8).is_newer_than(Origin("t", 0, 5, 8))


@given(st.permutations(range(5)))
def test_the_newest_of_a_key_does_not_depend_on_the_order_of_delivery(order: list[int]) -> None:
    arrivals = [decode_arrival(RECORDS, clean(DATA, origin=Origin("records.raw", 0, n, n))) for n in order]
    newest, overtaken = newest_per_key(arrivals)
    assert [arrival.origin.offset for arrival in newest] == [4]
    assert len(overtaken) == 4


def test_a_record_that_lacks_a_field_that_may_be_absent_has_it_as_null_in_all_that_follows() -> None:
    lacking = {name: value for name, value in DATA.items() if name not in ("value", "description")}
    arrival = decode_arrival(RECORDS, clean(lacking))
    assert arrival.row == "csv\ts\t1\tØ\t\\N\t\\N\tø"
    assert msgspec.json.decode(arrival.data) == DATA | {"value": None}
