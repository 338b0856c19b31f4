import json
from typing import Any

import httpx
import pytest
from nicegui.element import Element
from starlette.requests import Request

from dashboard.api_client import Api
from dashboard.live import Live
from dashboard.pages.failure import _editor
from dashboard.shell import Page
from tests.unit.dashboard.a_page import a_page, said

ORIGINAL = '{"id":"1","nested":{"a":1.50}}'
EDITED = '{"id":"2","nested":{"a":1.50}}'


def payload(content: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"content": content, "encoding": encoding}


class Pipeline:
    """An API with one dead letter; it keeps what it is told."""

    def __init__(self, **failure: Any) -> None:
        self.failure: dict[str, Any] = {"id": 7, "payload": payload(ORIGINAL), "edited_payload": None, **failure}
        self.told: list[tuple[str, Any]] = []
        self.refusal: dict[str, Any] | None = None
        self.page = Page(Live(Api("http://api", httpx.MockTransport(self._answer))), Request({"type": "http"} | EMPTY))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "GET":
            job = {"id": 1, "state": "done", "sent": 1, "total": 1, "skipped": 0, "outcomes": {"stored": 1}}
            return httpx.Response(200, json=job if "jobs" in path else self.failure)
        self.told.append((path.rpartition("/")[2], json.loads(request.content)))
        if self.refusal:
            return httpx.Response(409, json=self.refusal)
        return httpx.Response(200, json={"id": 1})


EMPTY: dict[str, Any] = {"headers": [], "query_string": b""}


def buttons(place: Element) -> dict[str, Element]:
    return {said_by(one): one for one in place.descendants() if one.tag == "button" and said_by(one)}


def said_by(one: Element) -> str:
    return getattr(one, "_text", None) or ""


async def press(button: Element) -> None:
    [listener] = button._event_listeners.values()
    handler: Any = listener.handler
    await handler()


@pytest.mark.parametrize(
    ("shown_with", "now", "posted"),
    [
        (None, None, None),  # nothing was edited: it is sent as it came
        (EDITED, EDITED, None),  # the edit that is kept is what the form shows
        (None, EDITED, ORIGINAL),  # a colleague's edit came meanwhile: what the form shows is sent
        (EDITED, None, EDITED),
    ],
)
async def test_what_the_form_shows_is_what_is_sent(shown_with: str | None, now: str | None, posted: str | None) -> None:
    with a_page() as client:
        pipeline = Pipeline(edited_payload=payload(shown_with) if shown_with else None)
        _editor(pipeline.page, dict(pipeline.failure))
        pipeline.failure["edited_payload"] = payload(now) if now else None
        await press(buttons(client.content)["Check, keep and send again"])
        edits = [json.loads(body["payload"]) for what, body in pipeline.told if what == "edit"]
        assert edits == ([json.loads(posted)] if posted else [])
        assert pipeline.told[-1] == ("retry", {"force": False})
        assert "1 stored" in said(client.content)


@pytest.mark.parametrize("odd", [payload("/wA=", "base64"), payload("[" + "1," * 40_000 + "1]")])
async def test_what_the_form_cannot_show_is_not_checked_here(odd: dict[str, str]) -> None:
    with a_page() as client:
        pipeline = Pipeline(payload=odd)
        _editor(pipeline.page, pipeline.failure)
        assert "Check and keep" not in buttons(client.content)
        await press(buttons(client.content)["Send again"])
        assert [what for what, _ in pipeline.told] == ["retry"]


async def test_what_is_sent_only_by_force_has_its_command() -> None:
    with a_page() as client:
        pipeline = Pipeline()
        pipeline.refusal = {"title": "Refused", "detail": "it is parked; --force sends it anyway"}
        _editor(pipeline.page, pipeline.failure)
        send = buttons(client.content)["Check, keep and send again"]
        await press(send)
        assert "headrace failures retry 7 --force" in said(client.content)
        assert "disabled" not in send.props


async def test_a_double_click_sends_once() -> None:
    with a_page() as client:
        pipeline = Pipeline()
        _editor(pipeline.page, pipeline.failure)
        send = buttons(client.content)["Check, keep and send again"]
        send.props["disabled"] = ""
        await press(send)
        assert pipeline.told == []


async def test_the_command_beside_the_form_follows_what_is_typed() -> None:
    with a_page() as client:
        pipeline = Pipeline()
        _editor(pipeline.page, pipeline.failure)
        [area] = [one for one in client.content.descendants() if one.tag == "textarea"]
        typed: Any = next(iter(area._event_listeners.values())).handler

        class Event:
            args = '{"id": "3", "nested": {"a": 1.50}}'

        with client.content:
            typed(Event())
        assert "headrace failures edit 7 --set id=3" in said(client.content)
