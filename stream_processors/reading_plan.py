"""How to read one source's records into one dataset, worked out once per source instead of once per record."""

from collections.abc import Callable
from typing import NamedTuple

from schemas.dataset import Dataset
from stream_processors.source_context import PUSHED, SourceHeaders, header_text, parse_mapping

FieldStep = tuple[str, str, Callable[[object], str | int | None], bool, str | int | None]
"""Field, column to take it from, its normalize, whether it is required, and what the source or the default fills in."""


class ReadingPlan(NamedTuple):
    """The steps for one combination of dataset and source headers."""

    source: str
    kind: str
    run: str | None
    steps: tuple[FieldStep, ...]
    columns: frozenset[str]
    """Every column that is known; others are reported as unknown."""


def reading_plan(dataset: Dataset, headers: SourceHeaders) -> ReadingPlan:
    """Combine declaration and headers. A field that the mapping leaves out is read from the column of its own name.

    Raises BadMapping.
    """
    names = [field.name for field in dataset.fields]
    mapping = parse_mapping(headers.mapping, names)
    parts = {"name": header_text(headers.name) or PUSHED, "kind": header_text(headers.kind) or PUSHED}
    filled = {f.name: f.default for f in dataset.fields} | {name: parts[part] for name, part in dataset.source_fields}
    return ReadingPlan(
        source=parts["name"],
        kind=parts["kind"],
        run=header_text(headers.run),
        steps=tuple(
            (f.name, mapping.get(f.name, f.name), f.type.normalize, f.required, filled.get(f.name))
            for f in dataset.fields
        ),
        columns=frozenset([*names, *mapping.values()]),
    )
