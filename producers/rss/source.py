"""The kind `rss`: an RSS (0.9x, 1.0, 2.0) or Atom feed; every entry is a record."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field, SecretStr

from producers.block import HttpBlock
from producers.http.fetch import open_fetcher
from producers.http.headers import can_be_sent
from producers.record_key import JsonRecordKey
from producers.source import SourceBatch, SourceDescription, SourceFailed, SourceRecord
from runtime.egress import Egress
from runtime.settings import Settings

log = structlog.get_logger()

WHOLE_AGAIN_SECONDS = 3600.0
"""A feed that has not changed is fetched whole so often all the same: what was published of it may be gone since."""

ACCEPT = (
    "application/atom+xml, application/rss+xml, application/rdf+xml, application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1"
)


class RssBlock(HttpBlock):
    """A block of kind `rss`."""

    kind: Literal["rss"]
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 16 * 1_048_576

    def build(self, name: str, settings: Settings, folder: Path) -> "RssSource":  # noqa: ARG002 (a kind with files needs it)
        return RssSource(self.describe(name), self, Egress.of(settings), settings.api_key if self.api_key else None)


@dataclass
class _Known:
    """The server's name for the version that was published last; of this process only."""

    conditions: dict[str, str] = field(default_factory=dict)
    until: float = 0.0


@dataclass(frozen=True)
class RssSource:
    """A feed; implements Source. Asks with If-None-Match and If-Modified-Since for what this object has published."""

    description: SourceDescription
    block: RssBlock
    egress: Egress
    api_key: SecretStr | None = None
    _known: _Known = field(default_factory=_Known, compare=False)

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """One batch with all entries, oldest first; none if the feed has not changed. Implements Source.batches."""
        # Imported here, since feedparser is loaded with them, and whoever only looks sources up needs none.
        from producers.rss.entries import NotAFeed
        from producers.rss.process import read_apart

        name, url = self.description.name, self.block.url
        async with open_fetcher(name, url, self.block, self.egress, ACCEPT, self.api_key) as fetcher:
            conditions = self._known.conditions if time.monotonic() < self._known.until else {}
            response = await fetcher.get(url, headers=conditions)
        if response.status_code == HTTPStatus.NOT_MODIFIED:
            log.info("feed_unchanged", source=name, url=url)
            return
        try:
            # Without what may be secret of it: entries are relative to the rest.
            address = str(response.url.copy_with(userinfo=b"", query=None, fragment=None))
            feed = await read_apart(response.content, response.headers.get("content-type"), address)
        except NotAFeed as error:
            raise SourceFailed(name, f"{url}: {error}; check `url` in the source's block") from error
        if feed.problem:
            log.warning("feed_malformed", source=name, url=url, reason=feed.problem, entries=len(feed.entries))

        async def remember() -> None:
            named = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
            given = {condition: response.headers.get(header) for condition, header in named.items()}
            self._known.conditions = {condition: value for condition, value in given.items() if can_be_sent(value)}
            if not conditions:
                self._known.until = time.monotonic() + WHOLE_AGAIN_SECONDS

        key = JsonRecordKey(self.description)
        records = [
            SourceRecord(value, key.of(value) if problem is None else None, problem) for value, problem in feed.entries
        ]
        yield SourceBatch(records, 1.0, on_confirmed=remember)
