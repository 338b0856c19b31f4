"""One GET with retries: exponential backoff with jitter, `Retry-After` honoured, and failures that say what to do."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from producers.http_block import HttpBlock, Trouble
from producers.rate_limit import RateLimit
from producers.retry_after import retry_after_seconds
from producers.source import SourceFailed

log = structlog.get_logger()

_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "it wants a key: set API_KEY and `api_key = true` in the source's block",
    HTTPStatus.FORBIDDEN: "it refuses the key: check API_KEY",
    HTTPStatus.NOT_FOUND: "check `url` in the source's block",
    HTTPStatus.BAD_REQUEST: "check `pagination` and `page_size` in the source's block",
    HTTPStatus.TOO_MANY_REQUESTS: "set or lower `rate_limit` in the source's block, or try later",
}


class _TryAgain(Exception):
    """An attempt failed in a way that may pass. `wait_seconds` is what the server asked for."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Fetcher:
    """Fetches for one run of a source, at the pace and with the tries that its block allows."""

    source: str
    client: httpx.AsyncClient
    block: HttpBlock
    _pace: RateLimit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pace", RateLimit(self.block.rate_limit))

    async def get(
        self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The successful answer with its body read, or a 304 to a request with conditions in its `headers`.

        Raises SourceFailed when the retries are used up or cannot help.
        """
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self.block.retries + 1),
            wait=_Wait(self.block),
            retry=retry_if_exception_type(_TryAgain),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return await attempts(self._attempt, url, parameters, headers or {})
        except _TryAgain as error:
            tries = "once" if not self.block.retries else f"{self.block.retries + 1} times"
            raise SourceFailed(self.source, f"{error.reason} (tried {tries})") from error

    async def _attempt(self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> httpx.Response:
        await self._pace.turn()
        try:
            # Merged, not replaced: the block's url may carry a query of its own.
            target = httpx.URL(url).copy_merge_params(dict(parameters))
            response = await self.client.get(target, headers=headers)
        except httpx.TimeoutException as error:
            seconds = self.client.timeout.read
            trouble = f"{url} did not answer within {seconds:g} s ({type(error).__name__})"
            raise self._again("timeout", trouble) from error
        except httpx.TransportError as error:
            trouble = f"{url} cannot be reached: {error or type(error).__name__}; is it running?"
            raise self._again("connection", trouble) from error
        except (httpx.InvalidURL, httpx.DecodingError, httpx.TooManyRedirects) as error:
            raise SourceFailed(self.source, f"{url}: {error}") from error
        if response.is_success or (headers and response.status_code == HTTPStatus.NOT_MODIFIED):
            return response
        status = f"{url} answered {response.status_code} {response.reason_phrase}".rstrip()
        if response.status_code in self.block.retry_on:
            wait = retry_after_seconds(response.headers.get("retry-after"), datetime.datetime.now(datetime.UTC))
            if wait is not None and wait > self.block.longest_wait_seconds:
                raise SourceFailed(self.source, f"{status} and asks to wait {wait:.0f} s: try again after that")
            raise _TryAgain(_with_hint(status, response), wait)
        if response.is_redirect:
            # Not followed: the API key would go to whatever host the answer names.
            location = response.headers.get("location")
            raise SourceFailed(self.source, f"{status} to {location}: put that address into `url`")
        raise SourceFailed(self.source, _with_hint(status, response))

    def _again(self, trouble: Trouble, reason: str) -> Exception:
        return _TryAgain(reason) if trouble in self.block.retry_on else SourceFailed(self.source, reason)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "source_retry",
            source=self.source,
            reason=str(error),
            attempt=state.attempt_number,
            wait_seconds=round(state.upcoming_sleep, 2),
        )


class _Wait:
    """How long to wait before the next try: what the server asks for, else a random time that grows with the tries."""

    def __init__(self, block: HttpBlock) -> None:
        self._backoff = wait_random_exponential(multiplier=block.backoff_seconds, max=block.longest_backoff_seconds)

    def __call__(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_seconds if isinstance(error, _TryAgain) else None
        return self._backoff(state) if asked is None else asked


def _with_hint(status: str, response: httpx.Response) -> str:
    body = " ".join(response.text[:200].split())
    hint = _HINTS.get(response.status_code)
    return status + (f": {body!r}" if body else "") + (f"; {hint}" if hint else "")
