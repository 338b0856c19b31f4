"""What a drift does to the records that show it: nothing, or the reason with which they fail. Pure."""

from collections.abc import Mapping

import msgspec

from schemas.dataset import Dataset, DatasetField
from schemas.errors import InvalidField
from sinks.drift.rules import Change

MAX_EXAMPLE = 500
"""Characters of an example that are kept."""

_decode = msgspec.json.Decoder(float_hook=str).decode
_decode_mapping = msgspec.json.Decoder(dict[str, str]).decode

_HOSTILE = (ValueError, ArithmeticError, RecursionError)


def failure_reason(dataset: Dataset, mapping: bytes | None, change: Change) -> str | None:
    """The reason code of the failures that the drift causes, None where records go through.

    A gained field is never in the way. A lost one is where a required field is read from it, a retyped one where a
    field is read from it that cannot take the value.
    """
    if change.what == "gained":
        return None
    fields = _read_from(dataset, mapping, change.field)
    if change.what == "lost":
        return "missing_field" if any(field.required for field in fields) else None
    value = example_value(change)
    return next((code for field in fields if (code := _refusal(field, value))), None)


def example_value(change: Change) -> object:
    """The field's value in the example; None where it has none, or is lost."""
    if change.example is None:
        return None
    try:
        return _decode(change.example.payload).get(change.field)
    except _HOSTILE:
        return None


def example_text(change: Change) -> str | None:
    """What to show: the field's value as JSON, or the record without it where it is lost. Cut, and without NUL."""
    if change.example is None:
        return None
    shown = change.example.payload
    if change.what != "lost":
        try:
            shown = msgspec.json.encode(example_value(change))
        except _HOSTILE:
            return None
    return shown[: 4 * MAX_EXAMPLE].decode("utf-8", "replace")[:MAX_EXAMPLE].replace("\x00", "\ufffd")


def _read_from(dataset: Dataset, mapping: bytes | None, column: str) -> list[DatasetField]:
    try:
        columns: Mapping[str, str] = _decode_mapping(mapping) if mapping else {}
    except _HOSTILE:
        return []
    filled = {name for name, _ in dataset.source_fields}
    return [f for f in dataset.fields if columns.get(f.name, f.name) == column and f.name not in filled]


def _refusal(field: DatasetField, value: object) -> str | None:
    try:
        normal = field.type.normalize(value)
    except InvalidField as error:
        return error.code
    except _HOSTILE:
        return "unreadable_value"
    return "required" if normal is None and field.required else None
