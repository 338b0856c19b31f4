"""The fields of raw records and their JSON types: of one record, and of a batch by run and source. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from runtime.settings import Settings
from schemas.errors import HOSTILE
from schemas.events import HEADER_MAPPING, HEADER_PROBLEM, HEADER_REPLAY_OF, HEADER_RUN, HEADER_SOURCE
from schemas.field_reading import plain_name
from schemas.registry import ingested_datasets
from schemas.source_headers import PUSHED
from sinks.sink import Message

MAX_GROUPS = 1024
"""Runs and sources that are remembered; beyond that all are forgotten, which costs a little time."""

MAX_BYTES_KEPT = 16_384
"""The headers of a group that is remembered; longer ones, which are none of ours, cost time instead of memory."""

MAX_NAME = 200
"""Characters of the name of a source, run or field that are kept: Postgres has an index on some, of 2,700 bytes."""

MAX_MEMBERS = 200
"""Members of one record that are looked at."""

MAX_SHAPES = 10_000
"""Beyond this many distinct shapes all are forgotten, which costs time and no knowledge."""

MAX_NAMES_KEPT = 10_000
"""Characters of the names in a shape that is remembered; one with more costs time each time, and no memory."""

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

    Compared by identity, which is quicker than by content: see Shapes.
    """

    members: tuple[tuple[str, str], ...]


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


SourceShape = tuple[Group, Shape] | None
"""Whose record it is, and its shape. None for what shows nothing: a delete, an unreadable record, or one sent again."""


class SourceShapes:
    """Tells groups and shapes of records, some 2 µs each. Remembers them, and nothing about records."""

    def __init__(self, settings: Settings) -> None:
        self._datasets = {settings.named(dataset.raw_topic): dataset.name for dataset in ingested_datasets()}
        self._shapes = Shapes()
        self._groups: dict[tuple[bytes | None, ...], Group] = {}

    def of(self, message: Message, headers: Mapping[str, bytes | None]) -> SourceShape:
        """Never raises for what a producer can send."""
        if HEADER_PROBLEM in headers or HEADER_REPLAY_OF in headers:
            return None
        shape = self._shapes.of(message.value())
        if shape is None:
            return None
        topic = message.topic()
        source, run, mapping = headers.get(HEADER_SOURCE), headers.get(HEADER_RUN), headers.get(HEADER_MAPPING)
        group = self._groups.get((topic, source, run, mapping))
        if group is None:
            names = [(postgres_text(value) or "")[:MAX_NAME] for value in (source, run)]
            group = Group(names[0] or PUSHED, self._datasets[topic], names[1] or None, mapping)
            if sum(map(len, filter(None, (source, run, mapping)))) <= MAX_BYTES_KEPT:
                if len(self._groups) >= MAX_GROUPS:
                    self._groups.clear()
                self._groups[topic, source, run, mapping] = group
        return group, shape


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
        """Take the records of another one in."""
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
        """One more record."""
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
