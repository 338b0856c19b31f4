"""The body of an HTTP answer, unpacked piece by piece: bounded however much it claims to be, and whole or an error."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator
from http import HTTPStatus

import httpx

PIECE_BYTES = 65_536
"""The largest piece that is unpacked at once, so that memory stays bounded whatever a few packed bytes stand for."""

ACCEPTED = "gzip, deflate"
"""Codings that servers are asked for. They may answer plainly, never in another coding."""

_LENGTHS = {"content-length", "transfer-encoding"}
_GZIP, _ZLIB, _RAW_DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class UnusableBody(Exception):
    """The body is too long, damaged, cut off, or in a coding that was not asked for; the message says which."""


async def body_pieces(response: httpx.Response, longest: int) -> AsyncGenerator[bytes]:
    """The body, unpacked, in pieces of at most PIECE_BYTES. Raises UnusableBody once there are over `longest` bytes.

    The response must be streamed and unread.
    """
    unpack = _unpacking(response.headers.get("content-encoding", ""))
    arrived = unpacked = 0
    async for raw in response.aiter_raw(PIECE_BYTES):
        arrived += len(raw)
        for piece in unpack.feed(raw) if unpack else (raw,):
            unpacked += len(piece)
            if unpacked > longest:
                raise UnusableBody(f"the answer is longer than {longest:,} bytes; raise `max_bytes` if that is right")
            yield piece
            await asyncio.sleep(0)  # others have their turn: a small packed piece may become many
        if arrived > 2 * longest:  # packed, and it never becomes anything
            raise UnusableBody(f"the answer is longer than {longest:,} bytes even packed")
    # Nothing at all is whole where the server says so; else it may have been cut off before its first byte.
    said = response.status_code == HTTPStatus.NO_CONTENT or response.headers.keys() & _LENGTHS
    if unpack and not unpack.whole and (arrived or not said):
        raise UnusableBody(f"the answer is cut off after {unpacked:,} bytes: its {unpack.name} has no end")


class _Packed:
    """gzip (members one after the other are one body, RFC 1952) or deflate, with or without zlib's frame."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._bits = (_GZIP,) if name == "gzip" else (_ZLIB, _RAW_DEFLATE)
        self._stream = zlib.decompressobj(self._bits[0])
        self._begun = False

    @property
    def whole(self) -> bool:
        return self._stream.eof

    def feed(self, raw: bytes) -> Iterator[bytes]:
        while True:
            if self._stream.eof:
                raw = raw.lstrip(b"\0")
                if not raw:
                    return
                if self.name != "gzip":
                    raise UnusableBody(f"the answer is damaged: bytes follow the end of its {self.name}")
                self._stream = zlib.decompressobj(_GZIP)
            piece = self._next(raw)
            self._begun = True
            raw = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if piece:
                yield piece
            if not raw and len(piece) < PIECE_BYTES:
                return

    def _next(self, raw: bytes) -> bytes:
        try:
            return self._stream.decompress(raw, PIECE_BYTES)
        except zlib.error as error:
            if self._begun or len(self._bits) == 1:
                raise UnusableBody(f"the answer is damaged: it is no {self.name} ({error})") from None
            self._bits = self._bits[1:]  # some servers mean deflate without zlib's frame
            self._stream = zlib.decompressobj(self._bits[0])
            return self._next(raw)


def _unpacking(coding: str) -> _Packed | None:
    name = coding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name in {"gzip", "x-gzip", "deflate"}:
        return _Packed(name.removeprefix("x-"))
    raise UnusableBody(f"the answer has the content-encoding {coding[:80]!r}; asked for was {ACCEPTED}")
