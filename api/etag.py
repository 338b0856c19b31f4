"""Entity tags of answers (RFC 9110): weak, because compression changes the bytes but not the record."""

import hashlib

TAG_BYTES = 12


def etag_of(content: bytes) -> str:
    """The weak tag of this content."""
    return f'W/"{hashlib.blake2b(content, digest_size=TAG_BYTES).hexdigest()}"'


def names(if_none_match: str | None, etag: str) -> bool:
    """Whether the header names the tag, in the weak comparison that If-None-Match asks for."""
    if if_none_match is None:
        return False
    given = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in given or etag.removeprefix("W/") in given
