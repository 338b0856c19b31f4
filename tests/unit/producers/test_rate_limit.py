"""Turns are given out on a grid, so that who wakes up late or answers slowly costs nothing of the rate."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.http.fetch import RateLimit

SECONDS = 10.0


class Clock:
    """Time that passes when somebody sleeps, always a little longer than asked for."""

    def __init__(self, late: float) -> None:
        self.now = 100.0
        self._late = late

    def limit(self, per_second: float | None) -> RateLimit:
        return RateLimit(per_second, lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self._late


@given(per_second=st.floats(0.5, 500), late=st.floats(0, 0.5), latency=st.floats(0, 0.4))
def test_over_a_window_the_rate_is_the_one_asked_for_within_5_percent(
    per_second: float, late: float, latency: float
) -> None:
    """`late` and `latency` are shares of the time between two turns."""
    clock = Clock(late / per_second)
    limit = clock.limit(per_second)
    taken: list[float] = []

    async def caller() -> None:
        while not taken or clock.now < taken[0] + SECONDS:
            await limit.turn()
            taken.append(clock.now)
            clock.now += latency / per_second

    asyncio.run(caller())
    expected = per_second * SECONDS
    assert len(taken) - 1 == pytest.approx(expected, rel=0.05, abs=1)


def test_an_idle_time_is_not_made_up_for() -> None:
    clock = Clock(0.0)
    limit = clock.limit(10)

    async def caller() -> None:
        await limit.turn()
        clock.now += 60
        for _ in range(3):
            await limit.turn()

    asyncio.run(caller())
    assert clock.now == pytest.approx(100 + 60 + 2 / 10)


def test_without_a_limit_nobody_waits() -> None:
    clock = Clock(0.0)
    asyncio.run(clock.limit(None).turn())
    assert clock.now == 100
