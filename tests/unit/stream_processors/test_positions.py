"""Committed is never past a record that is not confirmed, and in the end behind all that is no record."""

from hypothesis import given
from hypothesis import strategies as st

from stream_processors.positions import Cut, Positions


def test_a_confirmed_batch_may_be_committed_at_the_position_of_its_cut() -> None:
    positions = Positions[str]()
    batch = positions.cut("p", 12)  # its last record is 9, and markers follow
    assert positions.committable == {}
    batch.confirm()
    assert positions.committable == {"p": 12}


def test_what_is_passed_while_a_batch_is_in_work_is_committed_with_it() -> None:
    positions = Positions[str]()
    batch = positions.cut("p", 10)
    positions.passed("p", 11)
    assert positions.is_open("p")
    assert positions.committable == {}
    batch.confirm()
    assert positions.committable == {"p": 11}
    assert not positions.is_open("p")


def test_what_is_passed_with_nothing_in_work_may_be_committed_at_once() -> None:
    positions = Positions[str]()
    positions.passed("p", 3)
    assert positions.committable == {"p": 3}
    positions.cut("p", 10).confirm()
    positions.passed("p", 11)
    assert positions.committable == {"p": 11}


def test_a_partition_where_nothing_was_read_has_nothing_to_commit() -> None:
    positions = Positions[str]()
    positions.passed("p", 0)
    assert positions.committable == {}


def test_a_consumer_that_was_sent_back_lowers_no_position() -> None:
    positions = Positions[str]()
    batch = positions.cut("p", 10)
    positions.passed("p", 4)
    batch.confirm()
    positions.passed("p", 4)
    assert positions.committable == {"p": 10}


def test_a_batch_of_an_assignment_that_is_over_changes_nothing_in_the_next() -> None:
    earlier, later = Positions[str](), Positions[str]()
    earlier.cut("p", 10).confirm()
    assert later.committable == {}


def test_partitions_know_nothing_of_each_other() -> None:
    positions = Positions[str]()
    positions.cut("p", 10)
    positions.passed("q", 5)
    assert positions.committable == {"q": 5}


# Steps of one partition: hand out a record, pass something that is none, confirm the oldest batch in work.
@given(st.lists(st.sampled_from(["batch", "pass", "confirm"]), max_size=40))
def test_no_unconfirmed_record_is_ever_behind_and_all_is_committable_once_all_is_confirmed(steps: list[str]) -> None:
    positions, position = Positions[str](), 0
    work: list[tuple[int, Cut[str]]] = []
    for step in steps:
        if step == "confirm":
            if work:
                work.pop(0)[1].confirm()
        else:
            position += 1
            if step == "batch":
                work.append((position - 1, positions.cut("p", position)))
            else:
                positions.passed("p", position)
        assert all(record >= positions.committable.get("p", 0) for record, _ in work)
        assert positions.is_open("p") == bool(work)
        if not work:
            assert positions.committable.get("p", 0) == position
