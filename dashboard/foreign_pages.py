"""ASGI middleware against pages of others: a browser that somebody has open sends us whatever they tell it to."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.foreign_origins import is_foreign

POLICY_VIOLATION = 1008
"""The code by which a websocket is closed (RFC 6455)."""


class ForeignPages:
    """Refuses requests and websockets that a page of another origin makes; links that people follow come through.

    NiceGUI lets websockets of every origin in, and whatever a page of ours is fetched for, as a picture too, costs
    questions to the API. `hosts` are our names behind a proxy, which may give us another Host than the browser asked.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self._refuses(scope):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "a page of another origin"})
        elif scope["type"] == "http" and self._refuses(scope):
            words = "Pages of other sites may not ask this dashboard for anything; a link to it may be followed.\n"
            await PlainTextResponse(words, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refuses(self, scope: Scope) -> bool:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if not is_foreign(headers.get(b"host", ""), origin, site) or is_followed_link(scope, headers):
            return False
        return site is not None or not self._is_ours(origin or "")

    def _is_ours(self, origin: str) -> bool:
        try:
            return urlsplit(origin).hostname in self._hosts
        except ValueError:
            return False


def is_followed_link(scope: Scope, headers: dict[bytes, str]) -> bool:
    """True if somebody goes to a page himself, by a link or a bookmark: it fills his tab, and no page sees it. Pure."""
    by_hand = (headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")) == ("navigate", "document")
    return scope["type"] == "http" and scope["method"] == "GET" and by_hand
