import time
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from dashboard.api_client import Api, ApiProblem
from dashboard.elements import text
from dashboard.live import Answer, Live
from dashboard.shell import Page, Part
from tests.unit.dashboard.a_page import a_page, said


def page_of(answers: dict[str, Any]) -> Page:
    def answer(request: httpx.Request) -> httpx.Response:
        known = answers.get(request.url.path)
        return httpx.Response(200, json=known) if known else httpx.Response(503, json={"title": "Away"})

    live = Live(Api("http://api", httpx.MockTransport(answer)))
    return Page(live, Request({"type": "http", "headers": [], "query_string": b""}))


def good(data: Any) -> Answer:
    return Answer(data, None, time.monotonic())


def build(answer: Any) -> None:
    text("p", answer["word"])


async def test_a_part_that_cannot_be_built_leaves_nothing_behind() -> None:
    with a_page() as client:
        part = Part(("/x",), lambda answers: build(answers["/x"].data))
        part.update("/x", good({"word": "first"}))
        before = set(client.elements)
        for number in range(3):
            with pytest.raises(KeyError):
                part.update("/x", good({"other": number}))
        assert set(client.elements) == before
        assert said(client.content) == "first"
        part.update("/x", good({"word": "second"}))
        assert said(client.content) == "second"


async def test_who_has_come_back_by_another_connection_is_still_told() -> None:
    with a_page() as client:
        page = page_of({"/lag": {"word": "yes"}})
        page.watch("/lag", lambda _: None)
        page._start()
        client.tab_id = "tab"  # the second connection is there before the first is given up
        page._left()
        assert page.live.polls == 1
        client.tab_id = None
        page._left()
        assert page.live.polls == 0


async def test_a_part_that_is_built_once_waits_for_the_first_good_answer() -> None:
    with a_page() as client:
        page = page_of({})
        await page.show_once("/x", build)
        assert "Away" in said(client.content)
        [(_, _, update)] = page._watching
        update(Answer(None, ApiProblem("Still away", ""), 0))
        assert "Still away" in said(client.content)
        for word in ("first", "second"):
            update(good({"word": word}))
        assert said(client.content) == "first"


async def test_a_part_that_is_built_once_is_not_watched_if_it_is_there_at_once() -> None:
    with a_page() as client:
        page = page_of({"/x": {"word": "now"}})
        await page.show_once("/x", build)
        assert page._watching == []
        assert said(client.content) == "now"
