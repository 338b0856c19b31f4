"""Positions in CSV files from which a later run goes on, if the file is still the one that was read up to there.

It is if the bytes so far are the same: they are compared by hash, as fast as the disk gives them, and not parsed. A
file whose inode, size and time of change are what they were is not even compared.
"""

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from producers.csv.format import CsvFormat
from producers.csv.rows import CsvRows, RowPlace
from stores.checkpoints import Position

READ_BYTES: Final = 262_144
COMPARE_BYTES = 1_048_576
DIGEST_BYTES = 16

KEPT_BYTES = 16_777_216
"""Bytes read and not hashed yet, at most: more than any row of a batch, and what it reads ahead, can have."""

PLAIN_OFFSETS = 1 << 64
"""A larger one holds the state of a decoder too, and is no number of bytes."""

SETTLED_NS = 2_000_000_000
"""A file that was changed so short a time ago may change again without a new time."""


class FilePosition(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a file, in JSON. `digest` is that of the bytes before `offset`, all of whose rows are read.

    A run that read to the `end` says so: the bytes from `offset` to there, if any, were read as rows too, but what is
    appended could make other rows of them. `stat` is the file as it was opened; None if it could change unseen.
    """

    encoding: str
    delimiter: str
    skip_lines: int = 0
    offset: int = 0
    lines: int = 0
    after_cr: bool = False
    digest: str = ""
    end: int | None = None
    end_digest: str = ""
    stat: tuple[int, int, int, int] | None = None

    @property
    def place(self) -> RowPlace:
        return RowPlace(self.offset, self.lines, self.after_cr)

    @property
    def format(self) -> CsvFormat:
        return CsvFormat(self.encoding, self.delimiter, self.skip_lines)

    def saved(self) -> Position:
        return Position(msgspec.to_builtins(self))


class HashedFile(io.BufferedReader):
    """A file for CsvRows that hashes what it gives out, so that the digest is that of the bytes that were parsed.

    `position` is how far its rows were read; set one before the first row.
    """

    position: FilePosition

    def __init__(self, path: Path) -> None:
        raw = io.FileIO(path)
        super().__init__(raw, READ_BYTES)
        stat = os.fstat(raw.fileno())
        self.stat, self.size = _settled(stat), stat.st_size
        self.tracked = True
        """Bytes that are read count; not while a header is read again."""
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._hashed = 0
        self._ahead = bytearray()

    def read1(self, size: int = -1, /) -> bytes:
        data = super().read1(size)
        if self.tracked:
            self._ahead += data
            if len(self._ahead) > KEPT_BYTES:  # an endless line: no row begins in it
                self._advance(KEPT_BYTES // 2)
        return data

    def is_as_at(self, known: FilePosition) -> bool:
        """True if a run has read this to its end: then there is nothing to read. Blocking."""
        if known.end is None or known.end != self.size:
            return False
        return (self.stat is not None and self.stat == known.stat) or self._hash_of(known.end)[1] == known.end_digest

    def goes_on_from(self, known: FilePosition) -> bool:
        """True if the bytes up to a position are still the same; then they count as read. Blocking."""
        if not known.offset or known.offset > self.size:
            return False
        digest, found = self._hash_of(known.offset)
        if found != known.digest:
            return False
        self._hash, self._hashed = digest, known.offset
        return True

    def after(self, rows: CsvRows) -> Position | None:
        """The position after the rows so far; None where it can't be told."""
        place = rows.place()
        if place is None or place.offset >= PLAIN_OFFSETS or (digest := self._digest(place.offset)) is None:
            return None
        self.position = replace(self.position, **place._asdict(), digest=digest)
        return self.position.saved()

    def at_end(self, rows: CsvRows | None) -> Position:
        """After all rows: also the digest of all that was read, with the last rows that may not be finished.

        Without rows the header is not there yet: the file will be read from its beginning.
        """
        end = self._hashed + len(self._ahead)
        if rows and (unfinished := rows.unfinished()):
            data, lines = unfinished
            offset = end - len(data)
            if self._ahead.endswith(data) and (digest := self._digest(offset)) is not None:
                self.position = replace(self.position, offset=offset, lines=lines, after_cr=False, digest=digest)
        elif rows:
            self.after(rows)
        self.position = replace(self.position, end=end, end_digest=self._digest(end) or "", stat=self.stat)
        return self.position.saved()

    def _digest(self, offset: int) -> str | None:
        """The digest of the first `offset` bytes that were read. Later calls may only ask for more bytes."""
        if not self._hashed <= offset <= self._hashed + len(self._ahead):
            return None
        self._advance(offset - self._hashed)
        return self._hash.hexdigest()

    def _advance(self, count: int) -> None:
        self._hash.update(self._ahead[:count])
        self._hashed += count
        del self._ahead[:count]

    def _hash_of(self, count: int) -> tuple[hashlib.blake2b, str]:
        """The hash of the first bytes as they are now. Blocking."""
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.seek(0)
        while count and (data := self.read(min(COMPARE_BYTES, count))):
            digest.update(data)
            count -= len(data)
        return digest, digest.hexdigest()


def _settled(stat: os.stat_result) -> tuple[int, int, int, int] | None:
    if time.time_ns() - stat.st_mtime_ns < SETTLED_NS:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
