"""ASGI middleware that finds out who asks, before anything is answered. It refuses nobody: endpoints do.

What is given by a caller whom nobody need know (`/livez` with a wrong key) is nobody's business, and a read that is
answered before it is routed looks at the same caller as the routes do.
"""

import ipaddress
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access import AGAIN, CALLER, DOUBT, EVERYBODY, NOBODY, Caller, anonymous_paths, unauthorized
from api.current_request import key_name
from api.key_ring import KeyRing
from api.middleware import is_webhook
from api.problems import ProblemAnswer
from runtime.settings import Settings
from stores.api_keys import PREFIX
from stores.outages import TableMisfit, Unavailable

if TYPE_CHECKING:
    from api.tokens import Tokens

Found = tuple[Caller, Exception | None]
"""A caller, and what to answer where it may not do something; None: a plain 401 or 403."""

BEYOND = (
    "API_ACCESS=open, by which nobody is asked for a key, counts on loopback only. Set API_ACCESS=keys; or, where this "
    "address is one within a container whose port is published on loopback, say so by API_PUBLISHED_ON=127.0.0.1"
)


class Callers:
    """Knows callers by what they send: a key, or a token if there is an issuer. To be started, and closed.

    Not for API_ACCESS=open, where nobody is asked.
    """

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self._ring = KeyRing(engine)
        self._tokens = _tokens(settings) if settings.oidc_issuer else None

    def start(self) -> None:
        """Read keys from now on."""
        self._ring.start()

    async def close(self) -> None:
        """Stop that, and close connections."""
        await self._ring.close()
        if self._tokens:
            await self._tokens.close()

    async def of(self, scope: Scope) -> Found:
        """The caller of a request. NOBODY where nothing is sent, or nothing that is good."""
        try:
            given = _given(scope)
            if given is None:
                return NOBODY, None
            if self._tokens is None or given.startswith(PREFIX):
                return await self._ring.caller(given)
            return await self._tokens.caller(given), None
        except (ProblemAnswer, Unavailable, TableMisfit) as error:
            return NOBODY, error


def _tokens(settings: Settings) -> "Tokens":
    from api.tokens import Tokens  # here, since only the extra `oidc` installs what it needs

    return Tokens(settings)


class IdentifiedCallers:
    """Puts the caller of every request into its scope: EVERYBODY where access is open, on loopback.

    An application around this one that knows the caller has put it there already; no request can.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._open = settings.api_access == "open"
        self._published = settings.api_published_on is not None
        self._anonymous: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and CALLER not in scope:
            if self._open:
                scope[CALLER], scope[DOUBT] = self._anybody(scope)
            elif not self._is_anonymous(scope):
                callers: Callers = scope["app"].state.callers
                caller, scope[DOUBT] = await callers.of(scope)
                scope[CALLER], scope[AGAIN] = caller, callers.of
                key_name.set("" if caller is NOBODY else caller.name)
        await self._app(scope, receive, send)

    def _is_anonymous(self, scope: Scope) -> bool:
        if self._anonymous is None:  # routes come after the middleware
            self._anonymous = anonymous_paths(scope["app"])
        return scope["path"] in self._anonymous or is_webhook(scope["method"], scope["path"])

    def _anybody(self, scope: Scope) -> Found:
        """Whoever has sent this to an address of loopback: however this process has been started, by our command or by
        another server of ASGI applications.
        """
        server = scope.get("server")
        if self._published or server is None or not is_beyond_loopback(server[0]):
            return EVERYBODY, None
        return NOBODY, ProblemAnswer(HTTPStatus.FORBIDDEN, "open-on-loopback-only", BEYOND)


def _given(scope: Scope) -> str | None:
    """The key or token that a request carries, by either header. Raises ProblemAnswer (401) for what can be none."""
    key = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                key = token.strip()
                break
        elif name == b"x-api-key":
            key = value.strip()
    if key is None:
        return None
    if not key.isascii():
        raise unauthorized("invalid-key", "A key or token has ASCII characters only")
    return str(key.decode("ascii"))


@lru_cache(maxsize=64)
def is_beyond_loopback(address: str) -> bool:
    """True for the IP address of a listening socket that other machines may reach. Pure."""
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # a name, or a path: of a socket in the file system, or of a test
