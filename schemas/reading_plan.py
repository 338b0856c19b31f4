"""The steps that read one source's records into one dataset, worked out once per source instead of once per record."""

from decimal import Decimal
from typing import Any, NamedTuple

from schemas.dataset import Dataset
from schemas.errors import HOSTILE, FieldProblem, InvalidField
from schemas.field_reading import (
    FieldReading,
    Normalize,
    member_path,
    plain_name,
    read_member,
    reader_of,
    shortcut_of,
)
from schemas.plain_reading import PlainField, PlainReading, plain_reading
from schemas.source_headers import PUSHED, SourceHeaders, header_text, parse_mapping

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
    joins: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...]
    """Columns that are several of the record's, and the path of each of these; empty for nearly every source."""
    plain: PlainReading | None = None
    """The quick way to read most of the records; None where there is none."""


def reading_plan(dataset: Dataset, headers: SourceHeaders) -> ReadingPlan:
    """Combine declaration and headers. A field that the mapping leaves out is read from the column of its own name.

    Raises BadMapping.
    """
    names = [field.name for field in dataset.fields]
    mapping = parse_mapping(headers.mapping, names)
    parts = {"name": header_text(headers.name) or PUSHED, "kind": header_text(headers.kind) or PUSHED}
    from_source = {name: parts[part] for name, part in dataset.source_fields}
    steps: list[FieldStep] = []
    plain: list[PlainField] = []
    members: dict[str, tuple[str, ...]] = {}
    joins: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {}
    for field in dataset.fields:
        reading = mapping.get(field.name, FieldReading())
        column = plain_name(reading.column or field.name)
        if reading.columns:
            names_of = [plain_name(one) for one in reading.columns]
            column = ", ".join(names_of)
            joins[column] = tuple((one, member_path(one) or (one,)) for one in names_of)
        elif path := member_path(column):
            members[column] = path
        required = field.required or reading.required
        filled = _default(reading)
        if filled is None:
            filled = from_source.get(field.name, field.default)
        read = reader_of(field.type, reading)
        steps.append((field.name, column, read, required, filled))
        plain.append(PlainField(column, shortcut_of(field.type, reading), read, required, filled))
    return ReadingPlan(
        source=parts["name"],
        kind=parts["kind"],
        run=header_text(headers.run),
        steps=tuple(steps),
        columns=frozenset(
            [
                *names,
                *(step[1] for step in steps),
                *(path[0] for path in members.values()),
                *(name for parts in joins.values() for column, path in parts for name in (column, path[0])),
            ]
        ),
        members=tuple(members.items()),
        joins=tuple(joins.items()),
        plain=None if members or joins else plain_reading(plain),
    )


def read_fields(plan: ReadingPlan, record: dict[str, Any]) -> tuple[dict[str, Any], list[FieldProblem]]:
    """The plan's fields in normal form, and what is wrong with the others. Puts nested members into the record."""
    data: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    if plan.members:
        record |= {column: read_member(record, column, path) for column, path in plan.members}
    if plan.joins:
        record |= {column: [read_member(record, *one) for one in several] for column, several in plan.joins}
    get = record.get
    for name, column, normalize, required, filled in plan.steps:
        try:
            value = normalize(get(column))
            if value is None:
                if filled is not None:
                    value = normalize(filled)
                if required and value is None:
                    raise _absent(column, column in record)
            data[name] = value
        except HOSTILE as error:
            problems.append(_problem(name, error))
    return data, problems


def _absent(column: str, there: bool) -> InvalidField:
    if there:
        return InvalidField("required", f"{column!r} is null or empty")
    return InvalidField("missing_field", f"the record has no {column!r}")


def _problem(field: str, error: BaseException) -> FieldProblem:
    if isinstance(error, InvalidField):
        return FieldProblem(field, error.code, error.message)
    return FieldProblem(field, "unreadable_value", f"{type(error).__name__}: {str(error)[:200]}")


def _default(reading: FieldReading) -> str | int | Decimal | None:
    """The default as the field reads it whatever the notation of this source."""
    if reading.decimal is None or reading.default is None:
        return reading.default
    try:
        return Decimal(reading.default)
    except ArithmeticError:  # a header that none of ours wrote: the field refuses it
        return reading.default
