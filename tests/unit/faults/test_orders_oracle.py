"""The model of orders itself: it must not depend on the order in which it is fed, and must refuse what is spoilt."""

import itertools

import pytest

from tests.faults.oracle import Place
from tests.faults.orders import SPOILS, FirstWinsOracle, order, spoilt
from tests.faults.workload import encoded

Fed = tuple[Place, bytes | None]


def products(*records: Fed) -> list[str]:
    """What the model says is sold under the order_id, the same for every order of feeding."""
    answers = []
    for permutation in itertools.permutations(records):
        oracle = FirstWinsOracle()
        for place, value in permutation:
            oracle.feed(place, b"A", value)
        answers.append([content["product"] for content in oracle.rows().values()])
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


def value(number: int) -> bytes:
    return encoded(order("A", number))


def test_the_first_wins_by_offset_and_across_partitions_by_time() -> None:
    assert products((Place(1, 0, 7), value(1)), (Place(2, 0, 8), value(2))) == ["Product 1"]
    assert products((Place(9, 0, 1), value(1)), (Place(8, 1, 5), value(2))) == ["Product 2"]


def test_after_a_delete_the_next_is_the_first() -> None:
    before, delete = (Place(1, 0, 1), value(1)), (Place(2, 0, 2), None)
    assert products(before, delete) == []
    assert products(before, delete, (Place(3, 0, 3), value(2)), (Place(4, 0, 4), value(3))) == ["Product 2"]


@pytest.mark.parametrize("number", range(len(SPOILS)))
def test_what_is_spoilt_is_rejected_and_leaves_its_key_to_the_next(number: int) -> None:
    oracle = FirstWinsOracle()
    oracle.feed(Place(1, 0, 1), b"A", spoilt("A", number))
    oracle.feed(Place(2, 0, 2), b"A", value(1))
    assert oracle.rejected == {(0, 1)}
    assert oracle.rows()["A"]["product"] == "Product 1"
