"""The rules by which a source has drifted, over what is remembered of it and what a batch shows. Pure.

A source is learned first: all fields and types of its first run, or of its first LEARNING_RECORDS records, are its own.
After that, a field never seen before is *gained*; a type never seen before of a known field is *retyped* (null is no
type); a field that nearly every record had and that has been absent for a while, or for a whole run, is *lost*.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from sinks.drift.fields import NULL, Example, Observation, Sighting

LEARNING_RECORDS = 1_000

NEARLY_ALWAYS = 0.95
"""A field that fewer records had is optional: it may come and go."""

FEWEST_ABSENT, MOST_ABSENT = 20, 100
"""A field is lost after as many records without it as there were before, within these bounds."""

SMALLEST_RUN = 5
"""A whole run without a field counts from this many records on."""

QUIET_RECORDS = 100
"""A retyping is over after so many records of the source without that type."""

MAX_FIELDS = 500
"""Fields that are remembered of a source; further ones are not looked at."""

What = Literal["gained", "lost", "retyped"]


class FieldState(msgspec.Struct):
    """The memory of a field. Numbers count records of the source."""

    born: int
    """Records before the first that had it."""
    present: int = 0
    absent: int = 0
    """Records since the last that had it."""
    absent_since: int | None = None
    """Arrival of the first of these, in ms since the epoch."""
    types: dict[str, int] = msgspec.field(default_factory=dict)
    gained: bool = False
    lost: bool = False
    retyped: dict[str, int] = msgspec.field(default_factory=dict)
    """Types that are a drift now, with the records since the last that had it so."""

    @property
    def usual_type(self) -> str | None:
        """The type of most records so far."""
        return max(self.types, key=lambda kind: self.types[kind]) if self.types else None


class SourceState(msgspec.Struct):
    """The memory of a source's records for one dataset."""

    records: int = 0
    run: str | None = None
    run_records: int = 0
    learning: bool = True
    fields: dict[str, FieldState] = msgspec.field(default_factory=dict)


class Change(msgspec.Struct, frozen=True):
    """A drift that begins, goes on or ends. `records` of this batch show it; as a loss begins, all those so far."""

    phase: Literal["begins", "goes_on", "ends"]
    what: What
    field: str
    records: int = 0
    from_type: str | None = None
    to_type: str | None = None
    since_ms: int | None = None
    example: Example | None = None


def observe(state: SourceState, seen: Observation) -> list[Change]:
    """Take a group of records into the state, which is changed, and tell what follows. Each record once."""
    changes: list[Change] = []
    if seen.group.run != state.run and state.records:
        changes += _end_run(state, seen)
    if seen.group.run != state.run:
        state.run, state.run_records = seen.group.run, 0
    learning = state.learning
    found = seen.fields()
    for name, types in found.items():
        changes += _present(state, seen, name, types, learning=learning)
    for name in state.fields.keys() - found.keys():
        changes += _absent(state.fields[name], seen, name)
    state.records += seen.records
    state.run_records += seen.records
    if not learning:
        for name, field in state.fields.items():
            if not field.lost and field.absent >= _patience(state, field) and _was_usual(state, field):
                changes += _lost(field, name, seen)
    state.learning = learning and state.records < LEARNING_RECORDS
    return changes


def _end_run(state: SourceState, seen: Observation) -> list[Change]:
    """A run is over when another one begins: it is known now which fields it had none of."""
    if state.learning:
        state.learning = False
        return []
    if state.run_records < SMALLEST_RUN:
        return []
    return [
        change
        for name, field in state.fields.items()
        if not field.lost and field.absent >= state.run_records and _was_usual(state, field)
        for change in _lost(field, name, seen)
    ]


def _present(
    state: SourceState, seen: Observation, name: str, types: Mapping[str, Sighting], *, learning: bool
) -> list[Change]:
    changes: list[Change] = []
    all_types = list(types.values())
    records, last = sum(one.records for one in all_types), max(one.last for one in all_types)
    first = min(all_types, key=lambda one: one.first)
    field = state.fields.get(name)
    if field is None:
        if len(state.fields) >= MAX_FIELDS:
            return []
        field = state.fields[name] = FieldState(born=state.records + first.first)
        if not learning:
            field.gained = True
            kind = _first_type(types)
            changes.append(Change("begins", "gained", name, records, None, kind, _ms(first.example), first.example))
    else:
        if field.lost:
            field.lost = False
            changes.append(Change("ends", "lost", name))
        if field.gained:
            changes.append(Change("goes_on", "gained", name, records))
    if not learning:
        changes += _retyped(field, seen, name, types)
    for kind, one in types.items():
        if kind != NULL:
            field.types[kind] = field.types.get(kind, 0) + one.records
    field.present += records
    field.absent = seen.records - 1 - last
    field.absent_since = None
    if field.absent:
        without = seen.first_without(name, after=last)
        field.absent_since = _ms(without) if without else None
    return changes


def _retyped(field: FieldState, seen: Observation, name: str, types: Mapping[str, Sighting]) -> list[Change]:
    changes: list[Change] = []
    usual = field.usual_type or _first_type(types)
    for kind, one in types.items():
        if kind in (NULL, usual):
            continue
        if kind in field.retyped:
            field.retyped[kind] = seen.records - 1 - one.last
            changes.append(Change("goes_on", "retyped", name, one.records, to_type=kind))
        elif kind not in field.types:
            field.retyped[kind] = seen.records - 1 - one.last
            changes.append(Change("begins", "retyped", name, one.records, usual, kind, _ms(one.example), one.example))
    return changes + _quieter(field, seen, name, types)


def _first_type(types: Mapping[str, Sighting]) -> str | None:
    return min((kind for kind in types if kind != NULL), key=lambda kind: types[kind].first, default=None)


def _quieter(field: FieldState, seen: Observation, name: str, types: Mapping[str, Sighting]) -> list[Change]:
    ended = []
    for kind in field.retyped.keys() - types.keys():
        field.retyped[kind] += seen.records
        if field.retyped[kind] >= QUIET_RECORDS:
            ended.append(Change("ends", "retyped", name, to_type=kind))
    for change in ended:
        del field.retyped[change.to_type or ""]
    return ended


def _absent(field: FieldState, seen: Observation, name: str) -> list[Change]:
    if not field.absent and seen.first_at is not None:
        field.absent_since = round(seen.first_at.timestamp() * 1000)
    field.absent += seen.records
    changes = _quieter(field, seen, name, {})
    if field.lost:
        changes.append(Change("goes_on", "lost", name, seen.records))
    return changes


def _lost(field: FieldState, name: str, seen: Observation) -> list[Change]:
    ended = [Change("ends", "gained", name)] if field.gained else []
    field.lost, field.gained = True, False
    example, kind = seen.first_without(name), field.usual_type
    return [*ended, Change("begins", "lost", name, field.absent, kind, None, field.absent_since, example)]


def _before(state: SourceState, field: FieldState) -> int:
    """Records that could have had the field, up to the last that had it."""
    return state.records - field.born - field.absent


def _patience(state: SourceState, field: FieldState) -> int:
    return min(max(_before(state, field), FEWEST_ABSENT), MOST_ABSENT)


def _was_usual(state: SourceState, field: FieldState) -> bool:
    before = _before(state, field)
    return before >= SMALLEST_RUN and field.present >= NEARLY_ALWAYS * before


def _ms(example: Example) -> int:
    return round(example.at.timestamp() * 1000)
