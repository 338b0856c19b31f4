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


class Example(NamedTuple):
    """A raw record: its bytes, its coordinates and its time of arrival."""

    payload: bytes
    topic: str
    partition: int
    offset: int
    at: datetime


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

    def see(self, shape: Shape, example: Example) -> None:
        """One more record."""
        seen = self.shapes.get(shape)
        if seen is None:
            self.shapes[shape] = Sighting(1, self.records, self.records, example)
        else:
            seen.records += 1
            seen.last = self.records
        if self.first_at is None:
            self.first_at = example.at
        self.last_at = example.at
        self.records += 1

    def fields(self) -> dict[str, dict[str, Sighting]]:
        """Per field and type, the records that have it so."""
        found: dict[str, dict[str, Sighting]] = {}
        for shape, seen in self.shapes.items():
            for name, kind in shape:
                types = found.setdefault(name, {})
                if kind in types:
                    types[kind].add(seen)
                else:
                    types[kind] = Sighting(seen.records, seen.first, seen.last, seen.example)
        return found

    def first_without(self, name: str, after: int = -1) -> Example | None:
        """The first record without that field, from the position `after` on; None if none is known."""
        lacking = [
            seen
            for shape, seen in self.shapes.items()
            if seen.last > after and name not in {member for member, _ in shape}
        ]
        return min(lacking, key=lambda seen: (seen.first <= after, seen.first)).example if lacking else None


def observations(seen: Iterable[tuple[Group, Shape, Example]]) -> list[Observation]:
    """The records by group; groups in order of their first record."""
    found: dict[Group, Observation] = {}
    for group, shape, example in seen:
        observation = found.get(group)
        if observation is None:
            observation = found[group] = Observation(group)
        observation.see(shape, example)
    return list(found.values())
