"""Callers share loads: those who must see the newest state one that begins after they asked, probes a recent one."""

import asyncio

import pytest

from api.single_flight import Shared, SingleFlight


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


class Loads:
    """Loads that end when they are told to, and the time at which they do not end."""

    def __init__(self) -> None:
        self.now = 100.0
        self.begun: list[asyncio.Future[str]] = []
        self.shared = Shared(self._load, 1.0, clock=lambda: self.now)

    async def _load(self) -> str:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1]

    async def ask(self) -> asyncio.Task[str]:
        task = asyncio.create_task(self.shared.get())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task


async def test_a_hundred_callers_at_once_cause_one_load() -> None:
    loads = Loads()
    callers = [await loads.ask() for _ in range(100)]
    loads.begun[0].set_result("first")
    assert await asyncio.gather(*callers) == ["first"] * 100
    loads.now += 0.99
    assert await loads.shared.get() == "first"
    assert len(loads.begun) == 1


async def test_an_answer_is_not_given_to_whoever_asks_a_second_after_its_load_began() -> None:
    loads = Loads()
    early = await loads.ask()
    loads.now += 0.9
    loads.begun[0].set_result("old")
    assert await early == "old"
    loads.now += 0.1
    late = await loads.ask()
    loads.begun[1].set_result("new")
    assert await late == "new"


async def test_a_load_that_hangs_is_not_waited_for_by_whoever_comes_a_second_later() -> None:
    loads = Loads()
    early = await loads.ask()
    loads.now += 1.0
    late = [await loads.ask() for _ in range(10)]
    assert len(loads.begun) == 2
    loads.begun[1].set_result("new")
    assert await asyncio.gather(*late) == ["new"] * 10
    assert not early.done()
    loads.begun[0].set_result("old")
    assert await early == "old"
    assert await loads.shared.get() == "new"


async def test_an_error_is_given_to_those_who_wait_and_to_nobody_later() -> None:
    loads = Loads()
    waiting = [await loads.ask() for _ in range(2)]
    loads.begun[0].set_exception(OSError("down"))
    for caller in waiting:
        with pytest.raises(OSError, match="down"):
            await caller
    again = await loads.ask()
    loads.begun[1].set_result("up")
    assert await again == "up"


async def test_a_caller_who_gives_up_does_not_end_the_load_of_the_others() -> None:
    loads = Loads()
    gone, stays = await loads.ask(), await loads.ask()
    gone.cancel()
    await asyncio.sleep(0)
    loads.begun[0].set_result("up")
    assert await stays == "up"
