"""A file at an http(s) address: fetched into a temporary file, then read like any other."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog

from producers.http.block import FetchBlock
from producers.http.fetch import open_fetcher
from producers.source import ResumableSource, SourceBatch, SourceDescription, SourceFailed
from producers.text.found_encoding import CHARSET
from stores.checkpoints import Position

log = structlog.get_logger()


def is_address(path: str) -> bool:
    """True for an http(s) address, False for a path. Pure."""
    return path.startswith(("http://", "https://"))


@dataclass(frozen=True)
class DownloadedSource:
    """A file behind an address; implements ResumableSource.

    `at` makes the source that reads it where it has been put, with the charset that it was served with.

    The whole file is fetched before its first record is read, so a connection that breaks half-way publishes nothing.
    Redirects are followed: no key is sent along.
    """

    description: SourceDescription
    url: str
    at: Callable[[Path, str | None], ResumableSource]
    scope: str
    block: FetchBlock

    def batches(self) -> AsyncIterator[SourceBatch]:
        """Implements Source.batches."""
        return self._read(lambda source: source.batches())

    def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        """Records that the file has more than when it was fetched last. Implements ResumableSource.resume."""
        return self._read(lambda source: source.resume(since))

    async def _read(self, begin: Callable[[ResumableSource], AsyncIterator[SourceBatch]]) -> AsyncIterator[SourceBatch]:
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            path = Path(folder, "download")
            charset = await self._fetch(path)
            try:
                async with aclosing(begin(self.at(path, charset))) as batches:  # type: ignore[type-var]
                    async for batch in batches:
                        yield batch
            except SourceFailed as failure:
                raise SourceFailed(failure.source, failure.reason.replace(str(path), self.url)) from failure

    async def _fetch(self, path: Path) -> str | None:
        """Put the file there; the charset that its server gives. Raises SourceFailed."""
        async with open_fetcher(self.description.name, self.block, "*/*") as fetcher:
            answer = await fetcher.get(self.url, into=path)
        charset = CHARSET.search(answer.headers.get("content-type", ""))
        log.info("source_downloaded", source=self.description.name, url=self.url)
        return charset[1] if charset else None
