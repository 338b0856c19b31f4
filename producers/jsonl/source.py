"""The kinds `jsonl`, a file in a block, and `push`, given by hand: one JSON object a line, passed through untouched."""

import codecs
import gzip
import json
import select
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Literal, cast

from pydantic import Field

from producers.background_reader import read_in_background
from producers.block import SourceBlock
from producers.jsonl.form import is_object, not_json_lines, not_keys
from producers.record_key import JsonRecordKey
from producers.source import SourceBatch, SourceDescription, SourceFailed, SourceRecord
from runtime.settings import Settings

LONGEST_LINE = 16 * 1_048_576
"""Bytes. A longer line is cut here, so that memory stays bounded; publishing rejects it for its size in any case."""

READ_BYTES = 262_144
"""Bytes per read, and so about the size of a batch."""

LONGEST_UNPACKED = 16 * 1024**3
"""Bytes that a packed file may become."""

STANDARD_INPUT = Path("-")
_GZIP = b"\x1f\x8b"


class JsonLinesBlock(SourceBlock):
    """A block of kind `jsonl`."""

    kind: Literal["jsonl"]
    path: Path
    """A file, packed with gzip or not."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 50)] = LONGEST_UNPACKED
    """Bytes that a packed file may become."""

    def build(self, name: str, settings: Settings, folder: Path) -> "JsonLinesSource":  # noqa: ARG002 (files need none)
        return JsonLinesSource(self.describe(name), folder / self.path, self.max_bytes)


@dataclass(frozen=True)
class Lines:
    """The non-blank lines of a file, or of standard input for the path `-`, in UTF-8 and without a byte order mark.

    It may be packed with gzip, and in UTF-16 or UTF-32, which its mark or the NULs between its letters tell.
    """

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
                size = 0 if self.path == STANDARD_INPUT or not file.seekable() else self.path.stat().st_size
                begun = _Begun(file)
                packed = begun.beginning.startswith(_GZIP)
                chunks = self._unpacked(begun, source) if packed else iter(partial(begun.read, READ_BYTES), b"")
                for lines in _line_batches(_in_utf8(chunks)):
                    yield lines, min(1.0, file.tell() / size) if size else None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            reason = f"its gzip is cut off or damaged ({error}); what came before is published"
            raise SourceFailed(source, f"{self.path}: {reason}; get the file again") from error
        except OSError as error:
            raise SourceFailed(source, f"{self.path} cannot be read: {error.strerror or error}") from error

    def _unpacked(self, file: "_Begun", source: str) -> Iterator[bytes]:
        unpacked, left = gzip.GzipFile(fileobj=cast("IO[bytes]", file), mode="rb"), self.longest
        while chunk := unpacked.read(READ_BYTES):
            left -= len(chunk)
            if left < 0:
                reason = f"it unpacks to more than {self.longest:,} bytes; what came before is published"
                raise SourceFailed(source, f"{self.path}: {reason}; raise `max_bytes` if that is right")
            yield chunk


@dataclass(frozen=True)
class JsonLinesSource:
    """Lines of a file, or of standard input for the path `-`; implements Source. Blank lines are skipped.

    A line that is no JSON object is published too: the normalizer rejects it, and it is accounted for. A text that is
    something else altogether, such as a JSON array or CSV, is refused before its first record.
    """

    description: SourceDescription
    path: Path
    longest: int = LONGEST_UNPACKED

    def batches(self) -> AsyncIterator[SourceBatch]:
        return read_in_background(self.read)

    def read(self) -> Iterator[SourceBatch]:
        """All batches, blocking. Raises SourceFailed."""
        key, name = JsonRecordKey(self.description), self.description.name
        batches = Lines(self.path, self.longest).read(name)
        head: list[bytes] = []
        first: list[tuple[list[bytes], float | None]] = []
        for lines, done in batches:
            head += lines
            first = [(head, done)] if head else []
            if len(head) > 1 or (head and is_object(head[0])):
                break  # these lines tell whether it is one object a line
        if head and (what := not_json_lines(head)):
            raise SourceFailed(name, f"{self.path}: {what}; nothing of it is published")
        for lines, done in chain(first, batches):
            yield SourceBatch([SourceRecord(line, key.of(line)) for line in lines], done)


@dataclass(frozen=True)
class DeletedKeysSource:
    """Deletes records by their keys, one a line or given directly, as `CUST001` or `titanic:17`; implements Source.

    What is no key of the dataset is published too: the normalizer rejects it, and it is accounted for.
    """

    description: SourceDescription
    keys: Lines | tuple[str, ...]

    def __post_init__(self) -> None:
        description = replace(self.description, content_type="application/octet-stream")
        object.__setattr__(self, "description", description)

    def batches(self) -> AsyncIterator[SourceBatch]:
        return read_in_background(self.read)

    def read(self) -> Iterator[SourceBatch]:
        """All batches, blocking. Raises SourceFailed."""
        if isinstance(self.keys, tuple):
            yield SourceBatch([self._record(key) for key in self.keys], 1.0)
            return
        begun = False
        for lines, done in self.keys.read(self.description.name):
            if lines and not begun and (what := not_keys(lines[0])):
                raise SourceFailed(self.description.name, f"{self.keys.path}: {what}; nothing is deleted")
            begun = begun or bool(lines)
            yield SourceBatch([self._record(line.decode("utf-8", "replace").strip()) for line in lines], done)

    def _record(self, key: str) -> SourceRecord:
        """In the normal form, so that a delete comes to the partition of the records that it follows."""
        with suppress(ValueError):
            key = self.description.dataset.normal_key(key)
        return SourceRecord(None, key)


class _Begun:
    """A file whose beginning has been looked at: a pipe cannot be read again."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.beginning = self._more(READ_BYTES)

    def read(self, size: int, /) -> bytes:
        if not self.beginning:
            return self._more(size)
        piece, self.beginning = self.beginning[:size], self.beginning[size:]
        return piece

    def _more(self, size: int) -> bytes:
        while (piece := self._file.read(size)) is None:  # a pipe that somebody set not to block has nothing yet
            select.select([self._file], [], [])
        return piece


def _in_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A text in whichever of Unicode's encodings as UTF-8, without its mark."""
    beginning = b""
    while len(beginning) < 4 and (more := next(chunks, b"")):  # json's detection wants four
        beginning += more
    encoding = json.detect_encoding(beginning)
    chunks = chain([beginning.removeprefix(codecs.BOM_UTF8)], chunks)
    if encoding.startswith("utf-8"):
        return chunks
    return (text.encode() for text in codecs.iterdecode(chunks, encoding, "replace"))


def _line_batches(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Non-blank lines without their ends, as they become available."""
    rest = b""
    cutting = False
    for chunk in chunks:
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
