"""Callers who ask for one key at one time share one load, which begins after they have asked."""

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


async def test_a_caller_during_a_load_shares_the_next_one() -> None:
    begun, go = 0, asyncio.Event()
    state = "old"

    async def load() -> str:
        nonlocal begun
        begun += 1
        read = state
        await go.wait()
        return read

    flights: SingleFlight[str] = SingleFlight()
    early = asyncio.create_task(flights.load("k", load))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == 1
    state = "new"
    late = [asyncio.create_task(flights.load("k", load)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    assert await early == "old"
    assert await asyncio.gather(*late) == ["new"] * 5
    assert begun == 2


async def test_a_load_that_fails_does_not_fail_the_next_one() -> None:
    go = asyncio.Event()

    async def fail() -> int:
        await go.wait()
        raise OSError("down")

    async def succeed() -> int:
        return 1

    flights: SingleFlight[int] = SingleFlight()
    early = asyncio.create_task(flights.load("k", fail))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = asyncio.create_task(flights.load("k", succeed))
    await asyncio.sleep(0)
    go.set()
    assert await late == 1
    with pytest.raises(OSError, match="down"):
        await early
