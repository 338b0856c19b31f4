"""A file at an http(s) address: fetched into a temporary file, then read like any other."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from producers.source import ResumableSource, SourceBatch, SourceDescription, SourceFailed
from runtime.checkpoints import Position

log = structlog.get_logger()

ATTEMPTS = 4
TIMEOUT_SECONDS = 30.0
"""For each part of the answer, not for the whole file."""

HEADERS = {"User-Agent": "headrace"}


def is_address(path: str) -> bool:
    """Whether it is an http(s) address and no path. Pure."""
    return path.startswith(("http://", "https://"))


@dataclass(frozen=True)
class DownloadedSource:
    """A file behind an address; implements ResumableSource. `at` makes the source that reads it where it has been put.

    The whole file is fetched before its first record is read, so a connection that breaks half-way publishes nothing.
    Redirects are followed: no key is sent along.
    """

    url: str
    at: Callable[[Path], ResumableSource]
    scope: str

    @property
    def description(self) -> SourceDescription:
        return self.at(Path()).description

    @property
    def content_type(self) -> str:
        return self.at(Path()).content_type

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """Implements Source.batches."""
        async for batch in self._read(lambda source: source.batches()):
            yield batch

    async def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        """What the file has more than when it was fetched last; all of it is fetched. Implements ResumableSource."""
        async for batch in self._read(lambda source: source.resume(since)):
            yield batch

    async def _read(self, begin: Callable[[ResumableSource], AsyncIterator[SourceBatch]]) -> AsyncIterator[SourceBatch]:
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            path = Path(folder, "download")
            await self._fetch(path)
            try:
                async with aclosing(begin(self.at(path))) as batches:  # type: ignore[type-var]
                    async for batch in batches:
                        yield batch
            except SourceFailed as failure:
                raise SourceFailed(failure.source, failure.reason.replace(str(path), self.url)) from failure

    async def _fetch(self, path: Path) -> None:
        attempts = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            await attempts(self._attempt, path)
        except httpx.HTTPStatusError as error:
            answer = error.response
            reason = f"{self.url} answered {answer.status_code} {answer.reason_phrase}".rstrip()
            raise SourceFailed(self.description.name, reason) from error
        except (httpx.TransportError, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            reason = f"{self.url} cannot be read: {str(error) or type(error).__name__}; is it running?"
            raise SourceFailed(self.description.name, reason) from error

    async def _attempt(self, path: Path) -> None:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers=HEADERS, follow_redirects=True) as client,
            client.stream("GET", self.url) as answer,
        ):
            answer.raise_for_status()
            with path.open("wb") as file:
                async for part in answer.aiter_bytes():
                    await asyncio.to_thread(file.write, part)
                log.info("source_downloaded", source=self.description.name, url=self.url, bytes=file.tell())


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in {408, 425, 429} or error.response.is_server_error
    return isinstance(error, httpx.TransportError)
