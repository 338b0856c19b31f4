import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from dashboard.api_client import Api
from dashboard.live import Answer, Live
from tests.waiting import eventually_async


class Counter:
    """An API that counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.live = Live(Api("http://api", httpx.MockTransport(self._answer)))

    def _answer(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(200, json={"number": self.asked})


async def test_all_who_look_share_one_poll_and_none_goes_on_without_them() -> None:
    counter = Counter()
    seen: list[Answer] = []
    stops = [counter.live.watch("/lag", 0.01, seen.append), counter.live.watch("/lag", 0.01, lambda _: None)]
    assert counter.live.polls == 1
    await eventually_async(_yes(lambda: len(seen) >= 1), what="an answer comes")
    stops[0]()
    stops[0]()
    assert counter.live.polls == 1
    stops[1]()
    assert counter.live.polls == 0


async def test_pages_that_open_together_ask_once() -> None:
    counter = Counter()
    answers = await asyncio.gather(*(counter.live.ask("/lag") for _ in range(10)))
    assert counter.asked == 1
    assert {answer.data["number"] for answer in answers} == {1}


async def test_a_page_that_fails_keeps_the_answer_from_no_other() -> None:
    counter = Counter()
    seen: list[Answer] = []

    def fail(_: Answer) -> None:
        raise ValueError("this page is broken")

    counter.live.watch("/lag", 0.01, fail)
    counter.live.watch("/lag", 0.01, seen.append)
    await eventually_async(_yes(lambda: len(seen) >= 1), what="the other page has it")
    await counter.live.close()


async def test_an_answer_that_nobody_watches_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.live.FRESH_SECONDS", 0.01)
    counter = Counter()
    for number in range(20):
        await counter.live.ask(f"/topics/t/messages?from={number}")
    stop = counter.live.watch("/lag", 0.01, lambda _: None)
    await eventually_async(_yes(lambda: set(counter.live._watched) == {"/lag"}), what="only what is watched is kept")
    stop()
    await eventually_async(_yes(lambda: not counter.live._watched), what="nothing is kept")


async def test_an_error_that_nobody_expects_is_told_and_ends_no_poll() -> None:
    failing = [True]

    class Odd(Api):
        async def get(self, path: str, **_: object) -> object:
            if failing[0]:
                raise RecursionError("too deep")
            return {"path": path}

    live = Live(Odd("http://api"))
    seen: list[Answer] = []
    live.watch("/lag", 0.01, seen.append)
    await eventually_async(_yes(lambda: len(seen) >= 1), what="the problem is told")
    assert "too deep" in str(seen[0].problem)
    failing[0] = False
    await eventually_async(_yes(lambda: seen[-1].data == {"path": "/lag"}), what="an answer comes again")
    await live.close()


def _yes(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return condition()

    return ask
