"""ASGI middleware that answers 429 to who asks too often, and 503 where too much is asked at once that is expensive."""

import asyncio
import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from weakref import WeakValueDictionary

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import NOBODY, caller_of
from api.middleware import MORE_HEADERS, QUIET_PATHS, READS, is_webhook, problem_answer
from api.problems import ProblemAnswer
from api.request_counts import KEY, WINDOW_SECONDS, Kind, RequestCounts, Verdict

log = structlog.get_logger()

WAIT_SECONDS = 2.0
"""An expensive read waits so long for its place."""

RETRY_SECONDS = 2

EXPENSIVE_PATHS = (
    *("/search", "/trace/", "/topics/", "/audit", "/orders/totals", "/stats", "/overview"),
    *("/schema-drift", "/failures", "/health"),
)

EXPENSIVE_ENDS = ("/history", "/runs")

CHEAP_QUERY = re.compile(rb"(?:(?:page=[0-9]{1,3}|(?:limit|page_size)=[0-9]+|cursor=[\w-]*)(?:&|\Z))*")
"""Only pages, and near ones. All else filters, which means counting; and to a page far back all before are skipped."""

IPV6_BITS = 64
"""Of an IPv6 address: the rest is for its owner to choose."""


class RequestLimits:
    """Judges every request but those of supervisors and scrapers, and webhooks, which are judged by their signature
    first. Asks for `app.state.request_counts`.
    """

    def __init__(self, app: ASGIApp, at_once: int) -> None:
        """`at_once` expensive reads are done at a time, so that all others find a free connection and processor. One
        caller has half of them at most.
        """
        self._app = app
        self._places = asyncio.Semaphore(at_once)
        self._places_of_one = max(1, at_once // 2)
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET_PATHS or is_webhook(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        kind = kind_of(scope["method"], scope["path"], scope["query_string"])
        counts: RequestCounts = scope["app"].state.request_counts
        if verdict := counts.ask(kind, who_asks(scope)):
            if not self._warned and caller_of(scope) is NOBODY and (proxy := unknown_proxy(scope)):
                self._warned = True
                hint = "callers without a key share one limit; if it is your proxy, name it in TRUSTED_PROXIES"
                log.warning("proxy_not_trusted", proxy=proxy, hint=hint)
            scope[MORE_HEADERS] = headers_of(kind, verdict)
            if verdict.wait:
                told = too_many(kind, verdict)
                refusal = problem_answer(scope["path"], told.status, told.code, str(told), told.headers)
                await refusal(scope, receive, send)
                return
        if kind is Kind.EXPENSIVE:
            await self._in_turn(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = who_asks(scope)
        # Kept by those who use it or wait for it.
        own = self._own.setdefault(caller, asyncio.Semaphore(self._places_of_one))
        turn = Turn((own, self._places))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn.take()
        except TimeoutError:
            detail = "Too many expensive reads are under way; other requests are answered. Try again in a moment"
            retry = {"Retry-After": str(RETRY_SECONDS)}
            await problem_answer(scope["path"], HTTPStatus.SERVICE_UNAVAILABLE, "too-busy", detail, retry)(
                scope, receive, send
            )
            return

        async def send_when_made(message: Message) -> None:
            turn.give_back()  # no expensive answer is made piece by piece; who reads it slowly holds up nobody
            await send(message)

        try:
            await self._app(scope, receive, send_when_made)
        finally:
            turn.give_back()


class Turn:
    """A place in each of some semaphores."""

    def __init__(self, semaphores: Sequence[asyncio.Semaphore]) -> None:
        self._semaphores = semaphores
        self._taken: list[asyncio.Semaphore] = []

    async def take(self) -> None:
        """Wait for all, one after the other; who gives up waiting has none."""
        try:
            for semaphore in self._semaphores:
                await semaphore.acquire()
                self._taken.append(semaphore)
        except BaseException:
            self.give_back()
            raise

    def give_back(self) -> None:
        """Idempotent."""
        while self._taken:
            self._taken.pop().release()


def kind_of(method: str, path: str, query: bytes) -> Kind:
    """The limit that a request counts against. Pure."""
    if method not in READS:
        return Kind.CHANGES
    if path.startswith(EXPENSIVE_PATHS) or path.endswith(EXPENSIVE_ENDS):
        return Kind.EXPENSIVE
    return Kind.EXPENSIVE if query and not CHEAP_QUERY.fullmatch(query) else Kind.READS


def too_many(kind: Kind, verdict: Verdict) -> ProblemAnswer:
    """The answer to who is refused by that verdict. Pure."""
    detail = f"{verdict.limit:,} {kind} a minute are allowed; try again in {verdict.wait} s"
    retry = {"Retry-After": str(verdict.wait)}
    return ProblemAnswer(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", detail, retry)


def headers_of(kind: Kind, verdict: Verdict) -> tuple[tuple[bytes, bytes], ...]:
    """The limit and what is left of it, as draft-ietf-httpapi-ratelimit-headers-10 writes them. Pure."""
    return (
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (kind.encode(), verdict.limit, WINDOW_SECONDS)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (kind.encode(), verdict.left, verdict.reset)),
    )


def who_asks(scope: Scope) -> str:
    """The name of the key, and without one the address. Pure."""
    caller = caller_of(scope)
    if caller.is_known:
        return f"{KEY}{caller.name}"
    client = scope.get("client")
    return network_of(client[0]) if client else "?"


def unknown_proxy(scope: Scope) -> str | None:
    """The address of one that says for whom it asks and was not believed, or it would not be the client's. Pure."""
    named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    address = client[0] if (client := scope.get("client")) else ""
    return address if named and address.encode() not in named else None


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """An address as it counts: of IPv6 the network. Pure."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, IPV6_BITS), strict=False))
