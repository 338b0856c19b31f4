"""Hashes of an API's records as they were sent last, so that one that did not change is not sent again. Pure.

Kept by key, because records move from page to page as others come and go.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from producers.source import SourceRecord
from stores.checkpoints import Page

_HASH_BYTES = 8
"""Of 2^64 values: a change goes unseen by accident once in 10^19 times."""

_REVOKED = 0


class Compared(NamedTuple):
    """Work that a page makes: save `revoked`, send `changed`, and save `page` when they are confirmed."""

    changed: list[SourceRecord]
    unchanged: int
    revoked: Page | None
    page: Page | None


class SentRecords:
    """The contents sent last, from the pages of a checkpoint in their order; of `most` keys at most."""

    def __init__(self, pages: Iterable[Page] = (), most: int = 500_000) -> None:
        self._sent: dict[int, int] = {}
        self._pages: dict[int, Page] = {}
        self._most = most
        self.left_out = 0
        """Records that found no room any more: they will be sent again in every run."""
        for page in pages:
            for key, content in _entries(page.records):
                if content == _REVOKED:
                    self._sent.pop(key, None)
                else:
                    self._sent[key] = content
            if page.number is not None:
                self._pages[page.number] = page

    def page(self, number: int) -> Page | None:
        """A page as the checkpoint has it."""
        return self._pages.get(number)

    def count(self, number: int) -> int:
        """The number of records that a page had."""
        page = self._pages.get(number)
        return 0 if page is None else len(page.records) // (2 * _HASH_BYTES)

    def still_holds(self, number: int) -> bool:
        """True if each record of the page was sent last as the page held it.

        If not, one of them has come on another page since, and a page that did not change is no proof any more.
        """
        page = self._pages.get(number)
        return page is not None and all(self._sent.get(key) == content for key, content in _entries(page.records))

    def compare(
        self, number: int, records: Sequence[SourceRecord], etag: str | None, last_modified: str | None
    ) -> Compared:
        """Compare a page as it is now with what was sent, and remember it as sent."""
        changed: list[SourceRecord] = []
        revoked: list[int] = []
        entries: dict[int, int] = {}
        complete = True
        for record in records:
            key, content = _key_hash(record), _hash(record.value or b"") or 1
            known = self._sent.get(key)
            if known != content:
                changed.append(record)
                if known is not None:
                    revoked.append(key)
                elif len(self._sent) >= self._most:
                    complete = False
                    self.left_out += 1
                    continue
                self._sent[key] = content
            entries[key] = content
        # A page of which not all is remembered must come whole the next time.
        page = Page(number, etag if complete else None, last_modified if complete else None, _packed(entries.items()))
        if not changed and page == self._pages.get(number):
            return Compared(changed, len(records), None, None)
        self._pages[number] = page
        untrue = Page(None, None, None, _packed((key, _REVOKED) for key in revoked)) if revoked else None
        return Compared(changed, len(records) - len(changed), untrue, page)


def without(page: Page, revoked: Page) -> Page:
    """The page without the keys that are revoked; it must then come whole the next time."""
    keys = {key for key, _ in _entries(revoked.records)}
    kept = [(key, content) for key, content in _entries(page.records) if key not in keys]
    packed = _packed(kept)
    return page if len(packed) == len(page.records) else Page(page.number, None, None, packed)


def _key_hash(record: SourceRecord) -> int:
    if record.key is None:
        return _hash(b"v" + (record.value or b""))
    return _hash(b"k" + record.key.encode("utf-8", "surrogatepass"))


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=_HASH_BYTES).digest(), "little")


def _packed(entries: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack("<QQ", key, content) for key, content in entries)


def _entries(records: bytes) -> Iterator[tuple[int, int]]:
    return struct.iter_unpack("<QQ", records)
