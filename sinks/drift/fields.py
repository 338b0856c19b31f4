"""The fields of raw records and their JSON types: of one record, and of a batch by run and source. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from schemas.errors import HOSTILE
from schemas.events import HEADER_MAPPING, HEADER_PROBLEM, HEADER_REPLAY_OF, HEADER_RUN, HEADER_SOURCE
from schemas.field_reading import plain_name
from schemas.source_headers import PUSHED
from sinks.sink import Message

MAX_GROUPS = 1_024
"""Runs and sources that are remembered; a forgotten one costs a little time."""

MAX_SHAPES = 10_000
"""Distinct shapes that are remembered; a forgotten one costs a little time, and no knowledge."""

MAX_BYTES_KEPT = 10_000
"""A larger record, or a group with longer headers, is not remembered: it costs time each time instead of memory."""

MAX_NAME = 200
"""Characters of the name of a source, run or field that are kept: Postgres has an index on some, of 2,700 bytes."""

MAX_MEMBERS = 200
"""Members of one record that are looked at."""

NULL = "null"

_TYPES: dict[type, str] = {
    str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "array", type(None): NULL,
}  # fmt: skip

_decode = msgspec.json.Decoder().decode


class Group(NamedTuple):
    """Records that are judged together: one run of one source."""

    source: str
    dataset: str
    run: str | None
    mapping: bytes | None


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """(member, type) in order of appearance. A type is text, number, boolean, object, array or null.

    Compared by identity, which is quicker than by content: most records of one shape get the same object.
    """

    members: tuple[tuple[str, str], ...]


SourceShape = tuple[Group, Shape] | None
"""Whose record it is, and its shape. None for what shows nothing: a delete, an unreadable record, or one sent again."""


def source_shape(message: Message, headers: Mapping[str, bytes | None], dataset: str) -> SourceShape:
    """The group and shape of a raw record, in some 2 µs. Never raises for what a producer can send."""
    if HEADER_PROBLEM in headers or HEADER_REPLAY_OF in headers:
        return None
    shape = shape_of(message.value())
    if shape is None:
        return None
    source, run, mapping = headers.get(HEADER_SOURCE), headers.get(HEADER_RUN), headers.get(HEADER_MAPPING)
    small = len(source or b"") + len(run or b"") + len(mapping or b"") <= MAX_BYTES_KEPT
    group = _group if small else _group.__wrapped__
    return group(dataset, source, run, mapping), shape


@lru_cache(MAX_GROUPS)
def _group(dataset: str, source: bytes | None, run: bytes | None, mapping: bytes | None) -> Group:
    names = [(postgres_text(value) or "")[:MAX_NAME] for value in (source, run)]
    return Group(names[0] or PUSHED, dataset, names[1] or None, mapping)


def shape_of(payload: bytes | None) -> Shape | None:
    """The shape of a record, None for what is no JSON object: that has no fields, and fails by itself."""
    if payload is None:
        return None
    try:
        record: Any = _decode(payload)
    except HOSTILE:
        return None
    if type(record) is not dict:
        return None
    small = len(payload) <= MAX_BYTES_KEPT or sum(map(len, record)) <= MAX_BYTES_KEPT
    shape = _shape if small and len(record) <= MAX_MEMBERS else _shape.__wrapped__
    return shape(tuple(record), tuple(map(type, record.values())))


@lru_cache(MAX_SHAPES)
def _shape(names: tuple[str, ...], types: tuple[type, ...]) -> Shape:
    kept = islice(zip(names, types, strict=True), MAX_MEMBERS)
    return Shape(tuple({_name(name): _TYPES[kind] for name, kind in kept}.items()))


def _name(name: str) -> str:
    """As it is read, and as Postgres can hold it: without NUL and halves of surrogate pairs."""
    return plain_name(name)[:MAX_NAME].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def postgres_text(value: bytes | None) -> str | None:
    """Bytes as text that Postgres takes: a foreign producer may send broken UTF-8 and NUL."""
    return None if value is None else value.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


RawRow = tuple[str, int, int, str | None, str | None, str | None, bytes | None, datetime]
"""A raw record as it lands: topic, partition, offset, key, source, run, value, and time of arrival."""


class Example(NamedTuple):
    """A raw record: its bytes, its coordinates and its time of arrival."""

    payload: bytes
    topic: str
    partition: int
    offset: int
    at: datetime

    @classmethod
    def of(cls, row: RawRow) -> "Example":
        topic, partition, offset, *_, payload, at = row
        return cls(payload or b"", topic, partition, offset, at)


@dataclass
class Sighting:
    """Records of a group that have something in common. Positions count the group's records of this batch from 0."""

    records: int
    first: int
    last: int
    example: Example

    def add(self, other: "Sighting") -> None:
        if other.first < self.first:
            self.first, self.example = other.first, other.example
        self.records += other.records
        self.last = max(self.last, other.last)


@dataclass
class Observation:
    """The records of one group in one batch, in order of arrival."""

    group: Group
    records: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    shapes: dict[Shape, Sighting] = field(default_factory=dict)

    def see(self, shape: Shape, row: RawRow) -> None:
        seen = self.shapes.get(shape)
        if seen is None:
            self.shapes[shape] = Sighting(1, self.records, self.records, Example.of(row))
        else:
            seen.records += 1
            seen.last = self.records
        # Records of several partitions do not arrive in the order of their times.
        self.first_at = min(self.first_at or row[-1], row[-1])
        self.last_at = max(self.last_at or row[-1], row[-1])
        self.records += 1

    def fields(self) -> dict[str, dict[str, Sighting]]:
        """Per field and type, the records that have it so."""
        found: dict[str, dict[str, Sighting]] = {}
        for shape, seen in self.shapes.items():
            for name, kind in shape.members:
                types = found.setdefault(name, {})
                if kind in types:
                    types[kind].add(seen)
                else:
                    types[kind] = Sighting(seen.records, seen.first, seen.last, seen.example)
        return found

    def first_without(self, name: str, after: int = -1) -> Example | None:
        """The first record without that field, from the position `after` on; None if none is known."""
        lacking = [seen for shape, seen in self.shapes.items() if seen.last > after and name not in dict(shape.members)]
        return min(lacking, key=lambda seen: (seen.first <= after, seen.first)).example if lacking else None


def observations(seen: Iterable[tuple[Group, Shape, RawRow]]) -> list[Observation]:
    """The records by group; groups in order of their first record."""
    found: dict[Group, Observation] = {}
    for group, shape, row in seen:
        observation = found.get(group)
        if observation is None:
            observation = found[group] = Observation(group)
        observation.see(shape, row)
    return list(found.values())
