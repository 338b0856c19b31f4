"""ASGI middleware that tells browsers what our pages of documentation may load: our own files and their own scripts."""

import base64
import hashlib
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware import POLICY

PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})

_INLINE_SCRIPT = re.compile(rb"<script[^>]*>([^<].*?)</script>", re.DOTALL)


class PagePolicies:
    """Puts a policy for these pages in the place of the one that is for answers without any script.

    Looks at the page itself, so it has to stand behind what compresses it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PAGES:
            await self._app(scope, receive, send)
            return
        start: Message = {}

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            if start:
                scope[POLICY] = policy_of(message.get("body", b""))
                await send(dict(start))
                start.clear()
            await send(message)

        await self._app(scope, receive, send_with_policy)


def policy_of(page: bytes) -> bytes:
    """The policy for a page of ours, which names its inline scripts by their hashes. Pure."""
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(page)]
    scripts = " ".join(["'self'", *(f"'sha256-{one}'" for one in hashes)])
    return "; ".join((
        "default-src 'none'",
        f"script-src {scripts}",
        "style-src 'self' 'unsafe-inline'",  # which both pages make as they go
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src blob:",  # the search of /redoc
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )).encode()  # fmt: skip
