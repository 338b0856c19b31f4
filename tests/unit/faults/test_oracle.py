"""The oracle itself: it must not depend on the order in which it is fed, and must refuse what the workload spoils."""

import json
import random
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.faults.oracle import Oracle, Place, Rejected, customer
from tests.faults.workload import GARBAGE, Sent, Workload, encoded
from tests.faults.workload import customer as well_formed


def fed(*records: tuple[Place, bytes | None]) -> Oracle:
    oracle = Oracle()
    for place, value in records:
        oracle.feed(place, b"A", value)
    return oracle


def value(number: int) -> bytes:
    return encoded(well_formed("A", number))


def test_in_one_partition_the_higher_offset_wins_whatever_the_clock_says() -> None:
    newer, older = (Place(1, 0, 8), value(1)), (Place(9, 0, 7), value(2))
    for oracle in (fed(newer, older), fed(older, newer)):
        assert oracle.rows()["A"]["first_name"] == "Ada 1"


def test_across_partitions_the_later_timestamp_wins_whatever_the_offset_says() -> None:
    newer, older = (Place(9, 0, 1), value(1)), (Place(8, 1, 5), value(2))
    for oracle in (fed(newer, older), fed(older, newer)):
        assert oracle.rows()["A"]["first_name"] == "Ada 1"


def test_at_the_same_millisecond_the_higher_partition_wins() -> None:
    newer, older = (Place(9, 1, 0), value(1)), (Place(9, 0, 5), value(2))
    for oracle in (fed(newer, older), fed(older, newer)):
        assert oracle.rows()["A"]["first_name"] == "Ada 1"


def test_a_late_older_record_does_not_resurrect_what_was_deleted() -> None:
    delete, older = (Place(2, 0, 2), None), (Place(1, 0, 1), value(1))
    for oracle in (fed(delete, older), fed(older, delete)):
        assert (oracle.rows(), oracle.deleted()) == ({}, {"A"})


def test_a_newer_record_brings_a_deleted_key_back() -> None:
    oracle = fed((Place(3, 0, 3), value(1)), (Place(2, 0, 2), None))
    assert (list(oracle.rows()), oracle.deleted()) == (["A"], set())


def test_garbage_is_rejected_and_leaves_the_row_as_it_was() -> None:
    oracle = fed((Place(1, 0, 1), value(1)), (Place(2, 0, 2), b"[]"))
    assert oracle.rows()["A"]["first_name"] == "Ada 1"
    assert (oracle.accepted, oracle.rejected) == ({(0, 1)}, {(0, 2)})


@pytest.mark.parametrize("spoil", GARBAGE)
def test_every_kind_of_garbage_is_rejected(spoil: Callable[[str], bytes]) -> None:
    with pytest.raises(Rejected):
        customer(spoil("C000001"))


@pytest.mark.parametrize("balance", ["much", "NaN", "Infinity", True])
def test_what_is_no_amount_is_rejected(balance: object) -> None:
    with pytest.raises(Rejected):
        customer(json.dumps(well_formed("A", 1) | {"account_balance": balance}).encode())


def test_a_workload_gives_the_same_state_in_any_order_and_with_repeats() -> None:
    records = list(placed(Workload(3_000, 200, seed=1)))
    straight, shuffled = Oracle(), Oracle()
    for record in records:
        straight.feed(*record)
    again = [*records, *random.Random(2).sample(records, 500)]
    random.Random(3).shuffle(again)
    for record in again:
        shuffled.feed(*record)
    assert straight == shuffled
    assert straight.rows()
    assert straight.deleted()
    assert straight.rejected


def test_a_workload_is_the_same_for_the_same_seed() -> None:
    assert list(Workload(500, 50, seed=7)) == list(Workload(500, 50, seed=7)) != list(Workload(500, 50, seed=8))


def placed(records: Iterable[Sent]) -> Iterator[tuple[Place, bytes, bytes | None]]:
    """As a broker would lay them down: a key always in the same partition."""
    ends = [0] * 4
    for number, sent in enumerate(records):
        partition = sum(sent.key) % 4
        yield Place(number // 5, partition, ends[partition]), sent.key, sent.value
        ends[partition] += 1
