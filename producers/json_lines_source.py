"""The kinds `jsonl`, a file in a block, and `push`, given by hand: one JSON object a line, passed through untouched."""

import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, Protocol

from pydantic import Field

from producers.background_reader import read_in_background
from producers.record_key import JsonRecordKey
from producers.source import SourceBatch, SourceBlock, SourceDescription, SourceFailed, SourceRecord
from runtime.settings import Settings

LONGEST_LINE = 16 * 1_048_576
"""Bytes. A longer line is cut here, so that memory stays bounded; publishing rejects it for its size in any case."""

READ_BYTES = 262_144
"""Bytes per read, and so about the size of a batch."""

LONGEST_UNPACKED = 16 * 1024**3
"""Bytes that a packed file may become."""

STANDARD_INPUT = Path("-")
_GZIP = b"\x1f\x8b"


class _Reads(Protocol):
    def read(self, size: int, /) -> bytes: ...


class JsonLinesBlock(SourceBlock):
    """A block of kind `jsonl`."""

    kind: Literal["jsonl"]
    path: Path
    """A file, packed with gzip or not."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 50)] = LONGEST_UNPACKED
    """How much a packed file may become."""

    def build(self, name: str, settings: Settings, folder: Path) -> "JsonLinesSource":  # noqa: ARG002 (files need none)
        return JsonLinesSource(self.describe(name), folder / self.path, self.max_bytes)


@dataclass(frozen=True)
class Lines:
    """The non-blank lines of a file, packed with gzip or not, or of standard input for the path `-`."""

    path: Path
    longest: int = LONGEST_UNPACKED
    """Bytes; of a packed file no more is unpacked."""

    def read(self, source: str) -> Iterator[tuple[list[bytes], float | None]]:
        """Lines as they become available, with the share of the file read so far. Blocking.

        Raises SourceFailed in the name of `source`.
        """
        try:
            # Unbuffered: standard input hands over what has come, so that a slow writer's records are not held back;
            # and its own file object, whose lock a reader blocked at exit would hold.
            with open(0, "rb", 0, closefd=False) if self.path == STANDARD_INPUT else self.path.open("rb", 0) as file:
                if self.path == STANDARD_INPUT or not file.seekable():
                    yield from ((lines, None) for lines in _line_batches(file))
                    return
                size = max(1, self.path.stat().st_size)
                packed = file.read(len(_GZIP)) == _GZIP
                file.seek(0)
                for lines in _line_batches(_Unpacked(file, self.longest) if packed else file):
                    yield lines, min(1.0, file.tell() / size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            reason = f"its gzip is cut off or damaged ({error}); what came before is published"
            raise SourceFailed(source, f"{self.path}: {reason}; get the file again") from error
        except _TooLong as error:
            reason = f"it unpacks to more than {self.longest:,} bytes; what came before is published"
            raise SourceFailed(source, f"{self.path}: {reason}; raise `max_bytes` if that is right") from error
        except OSError as error:
            raise SourceFailed(source, f"{self.path} cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True)
class JsonLinesSource:
    """Lines of a file, or of standard input for the path `-`; implements Source. Blank lines are skipped.

    A line that is no JSON object is published too: the normalizer rejects it, and it is accounted for.
    """

    description: SourceDescription
    path: Path
    longest: int = LONGEST_UNPACKED

    @property
    def content_type(self) -> str:
        return "application/json"

    async def batches(self) -> AsyncIterator[SourceBatch]:
        """Batches of lines, read by a thread. Implements Source.batches."""
        async for batch in read_in_background(self.read):
            yield batch

    def read(self) -> Iterator[SourceBatch]:
        """The same, blocking. Raises SourceFailed."""
        key = JsonRecordKey(self.description)
        for lines, done in Lines(self.path, self.longest).read(self.description.name):
            yield SourceBatch([SourceRecord(line, key.of(line)) for line in lines], done)


class _TooLong(Exception):
    """A packed file becomes more than it may."""


class _Unpacked:
    """A packed file as the file that it becomes, up to `longest` bytes of it."""

    def __init__(self, file: IO[bytes], longest: int) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self._left = longest

    def read(self, size: int, /) -> bytes:
        chunk = self._file.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise _TooLong
        return chunk


def _line_batches(file: _Reads) -> Iterator[list[bytes]]:
    """Non-blank lines without their ends, as they become available."""
    rest = b""
    cutting = False
    while chunk := file.read(READ_BYTES):
        *lines, tail = chunk.split(b"\n")
        if lines:
            lines[0] = b"" if cutting else rest + lines[0]
            rest, cutting = tail, False
        elif not cutting:
            rest += tail  # a line longer than a chunk, at most LONGEST_LINE / READ_BYTES times
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
            rest, cutting = b"", True
        yield [line.strip(b"\r") for line in lines if line.strip()]
    if rest.strip():
        yield [rest.strip(b"\r")]
