import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from dashboard.app import POLICY
from dashboard.foreign_pages import ForeignPages

HOST = "127.0.0.1:8090"

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def _ours(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await PlainTextResponse("page")(scope, receive, send)


GUARDED = ForeignPages(_ours, ["ours.example.org"])


async def asked(method: str, headers: dict[str, str]) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(GUARDED), base_url=f"http://{HOST}") as client:
        return (await client.request(method, "/", headers=headers)).status_code


async def connected(headers: dict[str, str]) -> Message:
    """The middleware's answer to a websocket that asks to be let in."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    given = {"Host": HOST, **headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await GUARDED({"type": "websocket", "path": "/_nicegui_ws/socket.io/", "headers": raw}, receive, send)
    [answer] = sent
    return answer


OURS: list[dict[str, str]] = [
    {},
    {"Origin": "http://127.0.0.1:8090"},
    {"Origin": "http://127.0.0.1:8090", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none", **NAVIGATION},
    {"Origin": "https://ours.example.org"},  # a proxy that gives us its own Host
]

FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "https://ours.example.org.evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", OURS)
async def test_our_own_pages_and_programs_come_in(headers: dict[str, str]) -> None:
    assert await asked("GET", headers) == 200
    assert (await connected(headers))["type"] == "websocket.accept"


@pytest.mark.parametrize("headers", FOREIGN)
async def test_pages_of_others_get_neither_pages_nor_websockets(headers: dict[str, str]) -> None:
    assert await asked("GET", headers) == 403
    answer = await connected(headers)
    assert (answer["type"], answer["code"]) == ("websocket.close", 1008)


async def test_a_link_of_another_site_may_be_followed_and_posts_nothing() -> None:
    headers = {"Sec-Fetch-Site": "cross-site", **NAVIGATION}
    assert await asked("GET", headers) == 200
    assert await asked("POST", {"Origin": "https://wiki.example", **headers}) == 403
    assert (await connected(headers))["type"] == "websocket.close"


def test_a_page_may_connect_to_nobody_else() -> None:
    assert "connect-src 'self';" in POLICY
