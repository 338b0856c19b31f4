"""Callers who ask for one key at one time share one load."""

import asyncio

import pytest

from api.single_flight import SingleFlight


async def test_callers_at_one_time_share_one_load_and_later_ones_do_not() -> None:
    loads, go = 0, asyncio.Event()

    async def load() -> int:
        nonlocal loads
        loads += 1
        await go.wait()
        return loads

    flights: SingleFlight[int] = SingleFlight()
    callers = [asyncio.create_task(flights.load("k", load)) for _ in range(10)]
    other = asyncio.create_task(flights.load("other", load))
    await asyncio.sleep(0)
    go.set()
    assert len(set(await asyncio.gather(*callers))) == 1
    await other
    assert loads == 2
    await flights.load("k", load)
    assert loads == 3


async def test_all_callers_see_the_error_and_the_next_one_tries_again() -> None:
    async def fail() -> int:
        await asyncio.sleep(0)
        raise OSError("down")

    async def succeed() -> int:
        return 1

    flights: SingleFlight[int] = SingleFlight()
    results = await asyncio.gather(*(flights.load("k", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
    assert await flights.load("k", succeed) == 1


async def test_a_caller_that_gives_up_does_not_stop_the_others() -> None:
    go = asyncio.Event()

    async def load() -> str:
        await go.wait()
        return "loaded"

    flights: SingleFlight[str] = SingleFlight()
    impatient = asyncio.create_task(flights.load("k", load))
    patient = asyncio.create_task(flights.load("k", load))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    go.set()
    assert await patient == "loaded"
