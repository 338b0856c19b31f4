"""How to read one source's records into one dataset, worked out once per source instead of once per record."""

from decimal import Decimal
from typing import NamedTuple

from schemas.dataset import Dataset
from schemas.field_reading import FieldReading, Normalize, reader_of
from schemas.members import member_path, plain_name
from stream_processors.source_context import PUSHED, SourceHeaders, header_text, parse_mapping

FieldStep = tuple[str, str, Normalize, bool, str | int | Decimal | None]
"""Field, column to take it from, its normalize, whether it is required, and what is filled in where it is missing."""


class ReadingPlan(NamedTuple):
    """The steps for one combination of dataset and source headers."""

    source: str
    kind: str
    run: str | None
    steps: tuple[FieldStep, ...]
    columns: frozenset[str]
    """Every column that is known; others are reported as unknown."""
    members: tuple[tuple[str, tuple[str, ...]], ...]
    """Columns that are dotted paths into nested objects, with their parts; empty for nearly every source."""


def reading_plan(dataset: Dataset, headers: SourceHeaders) -> ReadingPlan:
    """Combine declaration and headers. A field that the mapping leaves out is read from the column of its own name.

    Raises BadMapping.
    """
    names = [field.name for field in dataset.fields]
    mapping = parse_mapping(headers.mapping, names)
    parts = {"name": header_text(headers.name) or PUSHED, "kind": header_text(headers.kind) or PUSHED}
    from_source = {name: parts[part] for name, part in dataset.source_fields}
    steps: list[FieldStep] = []
    members: dict[str, tuple[str, ...]] = {}
    for field in dataset.fields:
        reading = mapping.get(field.name, FieldReading())
        column = plain_name(reading.column or field.name)
        if path := member_path(column):
            members[column] = path
        filled = _default(reading)
        steps.append(
            (
                field.name,
                column,
                reader_of(field.type, reading),
                field.required or reading.required,
                from_source.get(field.name, field.default) if filled is None else filled,
            )
        )
    return ReadingPlan(
        source=parts["name"],
        kind=parts["kind"],
        run=header_text(headers.run),
        steps=tuple(steps),
        columns=frozenset([*names, *(step[1] for step in steps), *(path[0] for path in members.values())]),
        members=tuple(members.items()),
    )


def _default(reading: FieldReading) -> str | int | Decimal | None:
    """The default as the field reads it whatever the notation of this source."""
    if reading.decimal is None or reading.default is None:
        return reading.default
    try:
        return Decimal(reading.default)
    except ArithmeticError:  # a header that none of ours wrote: the field refuses it
        return reading.default
