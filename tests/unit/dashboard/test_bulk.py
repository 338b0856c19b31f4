import json
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from dashboard.api_client import Api
from dashboard.bulk import bulk_dialog, retry_command, selection
from dashboard.live import Live
from dashboard.shell import Page
from tests.unit.dashboard.a_page import a_page, said

PLAN = {"total": 3, "sent": 2, "ready": 2, "lines": []}


def page(told: list[Any]) -> Page:
    def answer(request: httpx.Request) -> httpx.Response:
        told.append(json.loads(request.content))
        return httpx.Response(200, json=PLAN)

    live = Live(Api("http://api", httpx.MockTransport(answer)))
    return Page(live, Request({"type": "http", "headers": [], "query_string": b""}))


@pytest.mark.parametrize("state", ["discarded", "stored", "queued", "parked"])
async def test_nothing_is_sent_from_a_list_of_others_than_open_ones(state: str) -> None:
    told: list[Any] = []
    with a_page() as client:
        await bulk_dialog(page(told), {"dataset": "customers", "state": state})()
        assert "Only open ones are sent again" in said(client.layout)
        links = [one.props["href"] for one in client.layout.descendants() if "href" in one.props]
        assert links == ["/failures?dataset=customers&state=open"]
    assert told == []


@pytest.mark.parametrize("state", [None, "open", "all"])
async def test_the_open_ones_of_a_filter_are_planned_and_the_state_is_no_condition(state: str | None) -> None:
    told: list[Any] = []
    wanted = {"key": "A B", **({"state": state} if state else {})}
    with a_page() as client:
        await bulk_dialog(page(told), wanted)()
        words = said(client.layout)
    assert "Dead letters with key A B." in words
    assert "Send 2 records again" in words
    assert told == [{"keys": ["A B"], "dry_run": True}]
    assert retry_command(wanted) == "headrace failures retry --key 'A B'"
    assert selection(wanted) == {"keys": ["A B"]}
