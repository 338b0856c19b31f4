"""Cursors of keyset pagination: the key of the last record seen, opaque to callers."""

import base64
import binascii

import msgspec

_decoder = msgspec.json.Decoder(list[str])


class InvalidCursor(ValueError):
    """The text is no cursor of this list."""


def encode_cursor(key: tuple[str, ...]) -> str:
    """URL-safe text for a key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(text: str, parts: int) -> tuple[str, ...]:
    """The key of `parts` parts. Raises InvalidCursor."""
    try:
        packed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = _decoder.decode(packed)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise InvalidCursor("is not a cursor that this API gave") from None
    if len(key) != parts or any("\x00" in part for part in key):
        raise InvalidCursor("is a cursor of another list")
    return tuple(key)
