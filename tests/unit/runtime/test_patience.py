"""A wait lasts so long from its last progress, and only then is it over."""

from runtime.patience import Patience


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_wait_that_makes_progress_outlasts_its_seconds_many_times_over() -> None:
    clock = Clock()
    patience = Patience(120, clock)
    for left in range(3_080, 0, -1):
        clock.now += 100
        patience.note(left)
        assert patience.remaining == 120


def test_a_wait_without_progress_is_over_after_its_seconds() -> None:
    clock = Clock()
    patience = Patience(120, clock)
    for left in (10, 10, 10):
        patience.note(left)
        clock.now += 40
    assert patience.remaining == 0


def test_records_that_come_in_meanwhile_are_no_progress() -> None:
    clock = Clock()
    patience = Patience(120, clock)
    for left in (10, 50, 20, 40, 11):
        patience.note(left)
        clock.now += 30
    assert patience.remaining == 0


def test_patience_without_a_limit_lasts_for_ever() -> None:
    clock = Clock()
    patience = Patience(None, clock)
    clock.now += 1e9
    assert patience.remaining > 0
