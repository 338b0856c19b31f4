"""What a batch of raw records shows of its sources: how often each field came, as which type, and where last. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sinks.drift.shapes import Shape


class Group(NamedTuple):
    """Records that are judged together: one run of one source."""

    source: str
    dataset: str
    run: str | None
    mapping: bytes | None


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
