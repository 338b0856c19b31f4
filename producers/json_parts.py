"""A JSON array or object as the bytes of its parts: a part that is no JSON costs its neighbours nothing. Pure.

A strict parser takes apart what is JSON. What it refuses is taken apart by strings and brackets alone, and whether a
part is JSON is for its reader to say. Both take time in proportion to the bytes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from schemas.errors import HOSTILE

MOST_PARTS = 1_000_000
"""In one array or object. A part of two bytes takes sixty in memory: so a page of 64 MiB might take 4 GB."""

# Whole strings, and what gives JSON its shape. Without backtracking, which would remember every character.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SHAPE = re.compile(_STRING + rb"?|[\[\]{},]", re.DOTALL)
_MEMBER = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*:(.*)", re.DOTALL)
_BLANK = b" \t\r\n"
_OPENER = {b"]": b"[", b"}": b"{"}


class NotSplit(ValueError):
    """The bytes cannot be taken apart; the message says why."""


class OtherShape(NotSplit):
    """They are no array, or no object, or lack a member: nothing else is wrong with them."""


class TooManyParts(NotSplit):
    """There are more parts than may be."""


def elements(body: bytes) -> list[bytes]:
    """The elements of an array, byte for byte. Raises NotSplit."""
    whole = _strictly(body, list[msgspec.Raw])
    return list(_parts(body, b"[")) if whole is None else [bytes(element) for element in whole]


def members(body: bytes) -> Mapping[str, bytes]:
    """The members of an object by name, byte for byte; of two with one name the last. Raises NotSplit."""
    whole = _strictly(body, dict[str, msgspec.Raw])
    if whole is not None:
        return {name: bytes(value) for name, value in whole.items()}
    named = [match for part in _parts(body, b"{") if (match := _MEMBER.fullmatch(part))]
    return {match[1][1:-1].decode("utf-8", "replace"): match[2].strip(_BLANK) for match in named}


def _strictly(body: bytes, wanted: Any) -> Any:
    """The decoded body; None if it is no JSON of this type, or may have too many parts."""
    if body.count(b",") >= MOST_PARTS:
        return None
    try:
        return msgspec.json.decode(body, type=wanted)
    except HOSTILE:
        return None


def _parts(body: bytes, opener: bytes) -> Iterator[bytes]:
    """The texts between the outermost commas of an array or object, without blank ones.

    Brackets that are missing inside a part are made up for, where no other reading is possible: one that closes an
    outer level closes the inner ones, and a `{` behind a comma begins no member, so the object before it has ended.
    """
    start = len(body) - len(body.lstrip(_BLANK)) + 1
    if body[start - 1 : start] != opener:
        raise OtherShape("it is no array" if opener == b"[" else "it is no object")
    opened = bytearray()
    comma, found = -1, 0
    for token in _SHAPE.finditer(body):
        sign, at = token[0], token.start()
        cut = -1
        if sign == b",":
            comma = at
            if len(opened) == 1:
                cut = at
        else:
            if closed := _OPENER.get(sign):
                level = opened.rfind(closed)
                if level < 0:
                    raise NotSplit(f"its brackets do not match (byte {at})")
                del opened[level:]
                cut = -1 if opened else at
            elif sign in {b"[", b"{"}:
                if sign == b"{" == opened[-1:] and comma >= 0 and not body[comma + 1 : at].strip(_BLANK):
                    level = opened.rfind(b"[")
                    if level < 0:
                        raise NotSplit(f"its brackets do not match (byte {at})")
                    del opened[level + 1 :]
                    cut = -1 if level else comma
                opened += sign
            comma = -1
        if cut < 0:
            continue
        if part := body[start:cut].strip(_BLANK):
            found += 1
            if found > MOST_PARTS:
                raise TooManyParts(f"it has more than {MOST_PARTS:,} records or members")
            yield part
        start = cut + 1
        if not opened:
            if body[start:].strip(_BLANK):
                raise NotSplit(f"it goes on after its end (byte {at})")
            return
    raise NotSplit("it has no end")
