"""The reason with which the records of a drift fail, and an example of them. Pure."""

from typing import Any

import msgspec

from schemas.dataset import Dataset
from schemas.errors import HOSTILE
from schemas.reading_plan import read_fields, reading_plan
from schemas.source_headers import BadMapping, SourceHeaders
from sinks.drift.rules import Change

MAX_EXAMPLE = 500
"""Characters of an example that are kept."""

_decode = msgspec.json.Decoder(float_hook=str).decode


def failure_reason(dataset: Dataset, mapping: bytes | None, change: Change) -> str | None:
    """The reason code of the failures that the drift causes, None where records go through.

    A gained field is never in the way. A lost or retyped one is, where the normalizer rejects a field that it reads
    from it: so the example is read as the normalizer reads it.
    """
    if change.what == "gained":
        return None
    try:
        plan = reading_plan(dataset, SourceHeaders(None, None, None, mapping))
    except BadMapping:
        return None  # All records of the source fail, and the drift has no part in it.
    paths = dict(plan.members)
    steps = tuple(step for step in plan.steps if paths.get(step[1], (step[1],))[0] == change.field)
    record = _example_record(change)
    if change.what == "lost":
        record.pop(change.field, None)
    members = tuple((column, path) for column, path in plan.members if any(step[1] == column for step in steps))
    _, problems = read_fields(plan._replace(steps=steps, members=members), record)
    return problems[0].code if problems else None


def example_text(change: Change) -> str | None:
    """The field's value as JSON, or the record without it where it is lost. Cut, and without NUL."""
    if change.example is None:
        return None
    shown = change.example.payload
    if change.what != "lost":
        try:
            shown = msgspec.json.encode(_example_record(change).get(change.field))
        except HOSTILE:
            return None
    return shown[: 4 * MAX_EXAMPLE].decode("utf-8", "replace")[:MAX_EXAMPLE].replace("\x00", "\ufffd")


def _example_record(change: Change) -> dict[str, Any]:
    try:
        return dict(_decode(change.example.payload)) if change.example else {}
    except HOSTILE:
        return {}
