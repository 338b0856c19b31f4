"""ASGI middleware against pages of somebody else that have a browser send us something.

A browser sends what any page tells it to, with whatever reach it has: to loopback, to a company's network. It cannot be
made to lie about three things, and they are looked at here: the name under which it has looked us up (`Host`), the page
that made it do so (`Origin`, `Sec-Fetch-Site`), and the kind of a body, which is not JSON unless a page may ask us.
"""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware import OWN_BOUNDS, QUIET_PATHS, READS, problem_answer
from runtime.foreign_origins import is_foreign

ANY = "*"

Refusal = tuple[HTTPStatus, str, str]
"""Status, code and detail of a problem."""


class ForeignPages:
    """Refuses requests that a page of another origin makes, unless that origin is allowed.

    `hosts` are names of ours with a dot in them, `origins` those of pages that may change something; `*` is any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        known = frozenset(host.lower() for host in hosts)
        self._is_ours = lru_cache(maxsize=256)(lambda host: is_ours(host, known))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await problem_answer(scope["path"], *refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not self._is_ours(host) and scope["path"] not in QUIET_PATHS:
            detail = f"This API does not go by the name {host[:200]!r}; if it does, add it to ALLOWED_HOSTS"
            return HTTPStatus.MISDIRECTED_REQUEST, "unknown-host", detail
        if scope["method"] in READS:
            return None
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        if is_foreign(host, origin, headers.get(b"sec-fetch-site")) and not self._origins & {origin, ANY}:
            detail = f"Pages of {(origin or 'another site')[:200]!r} may not change anything here; see CORS_ORIGINS"
            return HTTPStatus.FORBIDDEN, "foreign-origin", detail
        with_body = headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers
        if with_body and not scope["path"].startswith(OWN_BOUNDS) and not is_json(headers.get(b"content-type", "")):
            detail = "The body is to be JSON, and to say so: Content-Type: application/json"
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-json", detail
        return None


def is_ours(host: str, known: Collection[str]) -> bool:
    """True unless the `Host` is a name that somebody else could have given to this address (DNS rebinding). Pure.

    An address, `localhost` and a name without a dot, such as a container's, are in nobody's domain.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if "." not in name or name.endswith(".localhost") or name in known or ANY in known:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return ":" in name
    return True


def is_json(content_type: str) -> bool:
    """True for JSON and the kinds that build on it. Pure."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")
