"""When a source has drifted, and when it has not."""

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.field_reading import FieldReading, encode_mapping
from schemas.registry import dataset_named
from sinks.drift.fields import Example, Group, observations, shape_of
from sinks.drift.rules import MAX_FIELDS, Change, SourceState, observe
from sinks.drift.store import example_text, failure_reason

CUSTOMERS = dataset_named("customers")
ORDERS = dataset_named("orders")
START = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


class Source:
    """A source as the landing sink sees it, batch by batch."""

    def __init__(self) -> None:
        self.state = SourceState()
        self.records = 0

    def sends(self, run: str | None, records: Iterable[Any], batch: int = 1000) -> list[Change]:
        changes, records = [], list(records)
        for start in range(0, len(records), batch):
            seen = []
            for record in records[start : start + batch]:
                payload = json.dumps(record).encode()
                at = START + datetime.timedelta(seconds=self.records)
                shape = shape_of(payload)
                assert shape is not None
                row = ("customers.raw", 0, self.records, None, "shop", run, payload, at)
                seen.append((Group("shop", "customers", run, None), shape, row))
                self.records += 1
            for observation in observations(seen):
                changes += observe(self.state, observation)
        return changes


def begun(changes: Sequence[Change]) -> list[tuple[str, str]]:
    return [(change.what, change.field) for change in changes if change.phase == "begins"]


def people(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": number, "name": "Ada", **more} for number in range(count)]


def test_the_first_run_is_learned_and_a_run_like_it_is_no_drift() -> None:
    source = Source()
    assert source.sends("1", [*people(30), *people(10, note="x")]) == []
    assert source.sends("2", [*people(30), *people(10, note="x")]) == []


def test_a_field_that_comes_later_is_gained_once_with_its_count_and_an_example() -> None:
    source = Source()
    source.sends("1", people(30))
    [change] = source.sends("2", [*people(7), *people(5, note="hello")])
    assert (change.what, change.field, change.records, change.to_type) == ("gained", "note", 5, "text")
    assert change.example is not None
    assert change.example.offset == 37
    assert change.since_ms == round((START + datetime.timedelta(seconds=37)).timestamp() * 1000)
    assert example_text(change) == '"hello"'
    more = source.sends("3", people(4, note="again"))
    assert [(one.phase, one.what, one.records) for one in more] == [("goes_on", "gained", 4)]


def test_a_field_that_all_records_had_is_lost_after_as_many_records_without_it() -> None:
    source = Source()
    source.sends("1", people(40, mail="a@b.de"))
    assert source.sends("2", people(39), batch=13) == []
    [change] = source.sends("2", people(1))
    assert (change.what, change.field, change.records, change.from_type) == ("lost", "mail", 40, "text")
    assert change.since_ms == round((START + datetime.timedelta(seconds=40)).timestamp() * 1000)
    assert example_text(change) == '{"id": 0, "name": "Ada"}'


def test_a_lost_field_that_comes_back_ends_the_loss_and_is_no_gain() -> None:
    source = Source()
    source.sends("1", people(40, mail="a@b.de"))
    source.sends("2", people(50))
    [change] = source.sends("3", people(3, mail="a@b.de"))
    assert (change.phase, change.what, change.field) == ("ends", "lost", "mail")


def test_a_small_source_has_lost_a_field_once_a_whole_run_was_without_it() -> None:
    source = Source()
    source.sends("1", people(10, mail="a@b.de"))
    assert source.sends("2", people(6)) == []
    assert begun(source.sends("3", people(1))) == [("lost", "mail")]


def test_optional_members_come_and_go_without_a_word() -> None:
    source = Source()
    run = [{"id": n, **({"note": "x"} if n % 10 < 9 else {})} for n in range(500)]
    source.sends("1", run)
    assert source.sends("2", people(400) and [{"id": n} for n in range(400)]) == []


def test_null_is_no_type_and_a_first_real_value_is_no_drift() -> None:
    source = Source()
    source.sends("1", people(30, mail=None, age=3))
    assert source.sends("2", people(30, mail="a@b.de", age=None)) == []


def test_a_new_type_is_a_drift_until_it_has_not_been_seen_for_a_while() -> None:
    source = Source()
    source.sends("1", people(30, age=3))
    [change] = source.sends("2", [*people(5, age=3), *people(2, age="three")])
    assert (change.what, change.field, change.from_type, change.to_type) == ("retyped", "age", "number", "text")
    assert change.records == 2
    assert example_text(change) == '"three"'
    assert source.sends("3", people(99, age=3)) == []
    [ended] = source.sends("3", people(1, age=3))
    assert (ended.phase, ended.what, ended.to_type) == ("ends", "retyped", "text")
    assert source.sends("4", people(5, age="four")) == []


def test_whole_numbers_and_fractions_are_one_type() -> None:
    source = Source()
    source.sends("1", people(30, age=3))
    assert source.sends("2", people(30, age=3.5)) == []


def test_a_source_without_runs_is_learned_for_a_thousand_records() -> None:
    source = Source()
    assert source.sends(None, [*people(900), *people(100, note="x")], batch=100) == []
    assert begun(source.sends(None, people(1, other=1))) == [("gained", "other")]


def test_a_hostile_source_cannot_make_the_memory_grow() -> None:
    source = Source()
    source.sends("1", people(10))
    changes = source.sends("2", ({f"field{n}-{m}": m for m in range(50)} for n in range(50)))
    assert len(source.state.fields) == MAX_FIELDS
    assert sum(what == "gained" for what, _ in begun(changes)) < MAX_FIELDS


values: st.SearchStrategy[Any] = st.sampled_from([1, 2.5, "x", None, True, [1], {}])


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), values, max_size=4), max_size=60), st.integers(1, 60))
def test_how_records_are_cut_into_batches_changes_no_gain_and_no_retyping(records: Any, size: int) -> None:
    def verdicts(batch: int) -> list[tuple[str, str, str | None]]:
        source = Source()
        source.sends("1", people(30, a=1, b=None))
        changes = source.sends("2", records, batch)
        return sorted(
            (c.what, c.field, c.to_type if c.what == "retyped" else None)
            for c in changes
            if c.phase == "begins" and c.what != "lost"
        )

    assert verdicts(size) == verdicts(1000)


@given(st.binary())
def test_no_bytes_make_the_reading_of_a_shape_raise(payload: bytes) -> None:
    shape_of(payload)


def change(what: Any, field: str, record: dict[str, Any]) -> Change:
    example = Example(json.dumps(record).encode(), "customers.raw", 0, 0, START)
    return Change("begins", what, field, 1, example=example)


def test_what_a_drift_does_to_records_is_told_by_the_reason_they_fail_with() -> None:
    assert failure_reason(CUSTOMERS, None, change("gained", "x", {"x": 1})) is None
    assert failure_reason(CUSTOMERS, None, change("lost", "email", {})) == "missing_field"
    assert failure_reason(CUSTOMERS, None, change("lost", "phone", {})) is None
    assert failure_reason(CUSTOMERS, b'{"email":"mail"}', change("lost", "mail", {})) == "missing_field"
    assert failure_reason(CUSTOMERS, b'{"email":"mail"}', change("lost", "email", {})) is None
    assert failure_reason(CUSTOMERS, None, change("retyped", "email", {"email": {"at": "x"}})) == "wrong_type"
    assert failure_reason(CUSTOMERS, None, change("retyped", "account_balance", {"account_balance": "1.50"})) is None
    assert failure_reason(CUSTOMERS, None, change("retyped", "account_balance", {"account_balance": 1.5})) is None


def test_a_drift_is_judged_by_every_kind_of_mapping_as_the_normalizer_reads_it() -> None:
    def reason(readings: dict[str, FieldReading], what: Any, field: str, record: dict[str, Any]) -> str | None:
        return failure_reason(ORDERS, encode_mapping(readings), change(what, field, record))

    price = {"price": FieldReading("Preis", decimal=",")}
    assert reason(price, "lost", "Preis", {}) == "missing_field"
    assert reason(price, "retyped", "Preis", {"Preis": {}}) == "wrong_type"
    assert reason(price, "retyped", "Preis", {"Preis": "1.234,50"}) is None
    day = {"order_date": FieldReading("Tag", dates="day_first")}
    assert reason(day, "lost", "Tag", {}) == "missing_field"
    assert reason(day, "retyped", "Tag", {"Tag": "31/01/2024"}) is None
    assert reason(day, "retyped", "Tag", {"Tag": 7}) == "date_form"
    assert reason({"product": FieldReading("What", default="Pen")}, "lost", "What", {}) is None
    nested = {"product": FieldReading("item.name")}
    assert reason(nested, "lost", "item", {}) == "required"
    assert reason(nested, "retyped", "item", {"item": "Pen"}) == "required"
    assert reason(nested, "retyped", "item", {"item": {"name": "Pen"}}) is None
    needed = encode_mapping({"phone": FieldReading("tel", required=True)})
    assert failure_reason(CUSTOMERS, needed, change("lost", "tel", {})) == "missing_field"
    assert failure_reason(CUSTOMERS, needed, change("retyped", "tel", {"tel": ""})) == "required"


def test_a_batch_reaches_from_its_oldest_to_its_newest_record_whatever_partition_came_first() -> None:
    shape = shape_of(b'{"id": 1}')
    assert shape is not None
    times = [START + datetime.timedelta(milliseconds=ms) for ms in (5, 9, 1)]
    rows = [("customers.raw", partition, 0, None, "shop", "1", b'{"id": 1}', at) for partition, at in enumerate(times)]
    (seen,) = observations([(Group("shop", "customers", "1", None), shape, row) for row in rows])
    assert (seen.first_at, seen.last_at) == (times[2], times[1])


def test_a_member_has_the_name_under_which_it_is_read() -> None:
    shape = shape_of('{"\ufeffid": 1, "na\u200bme": "x"}'.encode())
    assert shape is not None
    assert shape.members == (("id", "number"), ("name", "text"))


def test_records_of_one_shape_share_it_however_long_their_values_are() -> None:
    long = json.dumps({"id": 1, "text": "x" * 12_000}).encode()
    assert shape_of(long) is shape_of(long.replace(b"1", b"2"))
    many = json.dumps({str(number): 1 for number in range(300)}).encode()
    assert shape_of(many) is not shape_of(many), "too many names to remember"
