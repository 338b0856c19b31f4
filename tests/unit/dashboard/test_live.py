import asyncio
from collections.abc import Awaitable, Callable

import httpx

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


def _yes(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return condition()

    return ask
