from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from dashboard.words import ABSENT, ago, counted, moment, number, rate, seconds


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12345, "12,345"), (None, ABSENT), (Decimal("40.0000"), "40.0000"), (Decimal("15420.50"), "15,420.50")],
)
def test_numbers_keep_all_their_digits_and_null_is_no_zero(value: object, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ABSENT), (0, "0 s"), (0.08, "80 ms"), (1.94, "1.9 s"), (12.4, "12 s"), (59.6, "1 min"),
        (250, "4 min 10 s"), (3600, "1 h"), (11_100, "3 h 5 min"), (86_400 * 12, "12 d"),
    ],
)  # fmt: skip
def test_durations_are_said_in_two_units_at_most(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ABSENT), (0, "0/s"), (0.25, "0.25/s"), (3.14, "3.1/s"), (4200.4, "4,200/s")]
)
def test_rates(value: float | None, shown: str) -> None:
    assert rate(value) == shown


def test_times_are_told_as_ages_and_in_utc() -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert ago((now - timedelta(seconds=42)).isoformat(), now) == "42 s ago"
    assert ago((now - timedelta(minutes=3, seconds=5)).isoformat(), now) == "3 min ago"
    assert ago((now + timedelta(seconds=2)).isoformat(), now) == "just now"
    assert ago(None, now) == ABSENT
    assert moment("2026-11-29T23:00:00+02:00") == "2026-11-29 21:00:00"


def test_counts_read_as_words() -> None:
    assert (counted(1, "record"), counted(2000, "record")) == ("1 record", "2,000 records")
