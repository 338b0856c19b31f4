"""One GET with retries: exponential backoff with jitter, `Retry-After` honoured, and failures that say what to do.

Every source over HTTP reads its answers here, so that the bounds on their length and time hold for all.
"""

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import httpx
import structlog
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from producers.block import FetchBlock, HttpBlock, Trouble
from producers.http.body import ACCEPTED, PIECE_BYTES, UnusableBody, body_pieces
from producers.http.headers import retry_after_seconds
from producers.source import SourceFailed
from runtime.egress import AddressRefused, Egress, origin

log = structlog.get_logger()

MOST_REDIRECTS = 10

WHOLE_FILE = (HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION)
"""Other statuses of success say that there is no file yet, or a part of one."""

_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "it wants a key: set API_KEY and `api_key = true` in the source's block",
    HTTPStatus.FORBIDDEN: "it refuses the key: check API_KEY",
    HTTPStatus.NOT_FOUND: "check `url` in the source's block",
    HTTPStatus.BAD_REQUEST: "check `pagination` and `page_size` in the source's block",
    HTTPStatus.TOO_MANY_REQUESTS: "set or lower `rate_limit` in the source's block, or try later",
}


class NotAnswered(SourceFailed):
    """There was no connection, or no answer in time."""


class Refused(SourceFailed):
    """The server answered with a status that is no success."""

    def __init__(self, source: str, reason: str, status: int) -> None:
        super().__init__(source, reason)
        self.status = status


class _TryAgain(Exception):
    """An attempt failed in a way that may pass. `wait_seconds` is what the server asked for, `status` its answer."""

    def __init__(self, reason: str, status: int | None = None, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.wait_seconds = wait_seconds


class Answer(NamedTuple):
    """A successful answer with its body unpacked, or a 304. `content` is empty where it went into a file."""

    status_code: int
    headers: httpx.Headers
    url: httpx.URL
    content: bytes


class RateLimit:
    """Gives out turns `1 / per_second` apart, however many requests are in flight; without a limit at once.

    A turn has its place on a fixed grid while callers queue for it: that one of them wakes up late moves none of the
    later turns, so over a window the rate is the one asked for. For one event loop.
    """

    def __init__(
        self,
        per_second: float | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._now, self._sleep = now, sleep

    async def turn(self) -> None:
        """Wait for the next turn. Turns are given in order of asking."""
        if not self._interval:
            return
        now = self._now()
        mine = max(self._next, now)
        self._next = mine + self._interval
        if mine > now:
            await self._sleep(mine - now)


@dataclass(frozen=True)
class Fetcher:
    """Fetches for one run of a source, at the pace, with the tries and within the bounds that its block allows."""

    source: str
    client: httpx.AsyncClient
    block: FetchBlock
    _pace: RateLimit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pace", RateLimit(self.block.rate_limit))

    async def get(
        self,
        url: str,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        into: Path | None = None,
    ) -> Answer:
        """The successful answer with its body read, or a 304 to a request with conditions in its `headers`.

        With `into` the body is written to that file instead of memory. Raises SourceFailed when the retries are used up
        or cannot help: Refused or NotAnswered if that is what it came to.
        """
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self.block.retries + 1),
            wait=self._wait,
            retry=retry_if_exception_type(_TryAgain),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return await attempts(self._attempt, url, parameters or {}, headers or {}, into)
        except _TryAgain as error:
            tries = "once" if not self.block.retries else f"{self.block.retries + 1} times"
            reason = f"{error} (tried {tries})"
            if error.status is None:
                raise NotAnswered(self.source, reason) from error
            raise Refused(self.source, reason, error.status) from error

    async def _attempt(
        self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str], into: Path | None
    ) -> Answer:
        await self._pace.turn()
        longest = asyncio.timeout(self.block.max_seconds)
        try:
            # Merged, not replaced: the block's url may carry a query of its own.
            target = httpx.URL(url).copy_merge_params(dict(parameters))
            async with longest, aclosing(await self._opened(url, target, headers)) as response:
                if response.is_success if into is None else response.status_code in WHOLE_FILE:
                    body = await self._body(response, into)
                elif headers and response.status_code == HTTPStatus.NOT_MODIFIED:
                    body = b""
                else:
                    # What another place answers is nobody's business whom this source tells what it got.
                    own = origin(response.url) == origin(target)
                    raise self._refusal(url, response, await _beginning(response) if own else "")
                return Answer(response.status_code, response.headers, response.url, body)
        except TimeoutError as error:
            if not longest.expired():
                raise
            seconds = self.block.max_seconds
            trouble = f"{url} was not done answering after {seconds:g} s; raise `max_seconds` if it needs longer"
            raise SourceFailed(self.source, trouble) from error
        except httpx.TimeoutException as error:
            seconds = self.block.timeout_seconds
            trouble = f"{url} did not answer within {seconds:g} s ({type(error).__name__})"
            raise self._again("timeout", trouble) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, UnusableBody, AddressRefused) as error:
            # A UnicodeError is a host's, such as xn--: of a redirect httpx raises it as it is.
            raise SourceFailed(self.source, f"{url}: {error}") from error
        except httpx.RemoteProtocolError as error:
            raise self._again("connection", f"{url}: the answer is cut off, or no HTTP: {error}") from error
        except httpx.TransportError as error:
            trouble = f"{url} cannot be reached: {error or type(error).__name__}; is it running?"
            raise self._again("connection", trouble) from error

    async def _opened(self, url: str, target: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
        """The answer, unread. Redirects are followed here: httpx would read the bodies of all of them, unbounded."""
        request = self.client.build_request("GET", target, headers=headers)
        for _ in range(MOST_REDIRECTS + 1):
            response = await self.client.send(request, stream=True, follow_redirects=False)
            following = response.next_request
            if not self.client.follow_redirects or following is None:
                return response
            await response.aclose()
            if origin(following.url) != origin(request.url):
                if request.url.scheme == "https" and following.url.scheme == "http":
                    raise SourceFailed(self.source, f"{url} redirects from https to {following.url}: unencrypted")
                self.client.cookies.clear()  # whatever httpx' own rules are
                for secret in ("authorization", "cookie"):
                    following.headers.pop(secret, None)
            request = following
        raise SourceFailed(self.source, f"{url} redirects more than {MOST_REDIRECTS} times")

    async def _body(self, response: httpx.Response, into: Path | None) -> bytes:
        async with aclosing(body_pieces(response, self.block.max_bytes)) as pieces:
            if into is None:
                return b"".join([piece async for piece in pieces])
            with into.open("wb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(self._write, file, piece)
        return b""

    def _write(self, file: BinaryIO, piece: bytes) -> None:
        try:
            file.write(piece)
        except OSError as error:
            raise SourceFailed(self.source, f"{file.name} cannot be written: {error.strerror or error}") from error

    def _refusal(self, url: str, response: httpx.Response, beginning: str) -> Exception:
        """The error that a status that is no success becomes."""
        code = response.status_code
        status = f"{url} answered {code} {response.reason_phrase}".rstrip()
        if code in self.block.retry_on:
            wait = retry_after_seconds(response.headers.get("retry-after"), datetime.datetime.now(datetime.UTC))
            if wait is not None and wait > self.block.longest_wait_seconds:
                return Refused(self.source, f"{status} and asks to wait {wait:.0f} s: try again after that", code)
            return _TryAgain(_with_hint(status, response, beginning), code, wait)
        if response.is_redirect:
            # Not followed: the API key would go to whatever host the answer names.
            location = response.headers.get("location")
            return Refused(self.source, f"{status} to {location}: put that address into `url`", code)
        return Refused(self.source, _with_hint(status, response, beginning), code)

    def _again(self, trouble: Trouble, reason: str) -> Exception:
        return _TryAgain(reason) if trouble in self.block.retry_on else NotAnswered(self.source, reason)

    def _wait(self, state: RetryCallState) -> float:
        """The wait before the next try: as the server asks for, else a random time that grows with the tries."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _TryAgain) and error.wait_seconds is not None:
            return error.wait_seconds
        block = self.block
        return wait_random_exponential(multiplier=block.backoff_seconds, max=block.longest_backoff_seconds)(state)

    def _tell(self, state: RetryCallState) -> None:
        log.warning(
            "source_retry",
            source=self.source,
            reason=str(state.outcome and state.outcome.exception()),
            attempt=state.attempt_number,
            wait_seconds=round(state.upcoming_sleep, 2),
        )


def _with_hint(status: str, response: httpx.Response, beginning: str) -> str:
    hint = _HINTS.get(response.status_code)
    return status + (f": {beginning!r}" if beginning else "") + (f"; {hint}" if hint else "")


async def _beginning(response: httpx.Response) -> str:
    """The first words of the body of an error; empty if it can't be read. The rest is not read."""
    try:
        async with aclosing(body_pieces(response, PIECE_BYTES)) as pieces:
            beginning = await anext(pieces, b"")
    except (UnusableBody, httpx.TransportError):
        return ""
    return " ".join(beginning[:200].decode("utf-8", "replace").split())


@asynccontextmanager
async def open_fetcher(
    source: str, url: str, block: FetchBlock, egress: Egress, accept: str, key: SecretStr | None = None
) -> AsyncIterator[Fetcher]:
    """A fetcher for one run of what is declared at `url`. `key` is sent as X-API-Key; without one redirects are
    followed: a key must not go to whatever host they name. Raises SourceFailed for a block that wants a key where there
    is none.
    """
    if isinstance(block, HttpBlock) and block.api_key and key is None:
        raise SourceFailed(source, f"{url} wants a key and API_KEY is not set: set it")
    headers = {"Accept": accept, "Accept-Encoding": ACCEPTED, "User-Agent": "headrace"}
    if key is not None:
        headers["X-API-Key"] = key.get_secret_value()
    options: dict[str, Any] = {"timeout": block.timeout_seconds, "follow_redirects": key is None}
    async with egress.client(url, headers=headers, **options) as client:
        yield Fetcher(source, client, block)
