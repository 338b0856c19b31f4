"""The shape of a raw record: which members it has, and of which JSON types. Pure."""

from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.errors import HOSTILE
from schemas.members import plain_name


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """(member, type) in order of appearance. A type is text, number, boolean, object, array or null.

    Compared by identity, which is quicker than by content: see Shapes.
    """

    members: tuple[tuple[str, str], ...]


MAX_MEMBERS = 200
"""Members of one record that are looked at."""

MAX_NAME = 200
"""Characters of a member's name that are kept."""

MAX_SHAPES = 10_000
"""Beyond this many distinct shapes all are forgotten, which costs time and no knowledge."""

MAX_NAMES_KEPT = 10_000
"""Characters of the names in a shape that is remembered; one with more costs time each time, and no memory."""

NULL = "null"

_TYPES: dict[type, str] = {
    str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "array", type(None): NULL,
}  # fmt: skip

_decode = msgspec.json.Decoder().decode


class Shapes:
    """Gives records of one shape the same object, so that most of them cost a look into a dictionary."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, ...], tuple[type, ...]], Shape] = {}

    def of(self, payload: bytes | None) -> Shape | None:
        """The shape of a record, None for what is no JSON object: that has no fields, and fails by itself."""
        if payload is None:
            return None
        try:
            record: Any = _decode(payload)
        except HOSTILE:
            return None
        if type(record) is not dict:
            return None
        key = tuple(record), tuple(map(type, record.values()))
        shape = self._known.get(key)
        if shape is None:
            shape = _shape(record)
            if len(record) <= MAX_MEMBERS and sum(map(len, record)) <= MAX_NAMES_KEPT:
                if len(self._known) >= MAX_SHAPES:
                    self._known.clear()
                self._known[key] = shape
        return shape


def _shape(record: dict[str, Any]) -> Shape:
    kept = list(record.items())[:MAX_MEMBERS]
    return Shape(tuple({_name(name): _TYPES[type(value)] for name, value in kept}.items()))


def _name(name: str) -> str:
    """As it is read, and as Postgres can hold it: without NUL and halves of surrogate pairs."""
    return plain_name(name)[:MAX_NAME].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
