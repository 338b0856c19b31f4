"""The Kafka key of a raw record: the dataset's key in its normal form, so that one record always has one partition."""

from collections.abc import Sequence
from typing import Any

import msgspec

from producers.source import SourceDescription
from schemas.dataset import KEY_SEPARATOR
from schemas.field_reading import FieldReading, Normalize, reader_of
from schemas.fields import FieldType, FromSource
from schemas.members import member_path, read_member

LONGEST_KEY = 1000
"""Characters kept of a key that has no normal form; it only has to keep versions of one record in order."""


# What hostile input can raise: InvalidField, msgspec's errors and UnicodeError are ValueErrors, decimal's signals are
# ArithmeticErrors, deep nesting is a RecursionError.
_HOSTILE = (ValueError, ArithmeticError, RecursionError)


class RecordKey:
    """Makes the key from the values of `columns`, in that order.

    A column that a record lacks is None. The key is the normalized one where the values have a normal form, else the
    text as it is (order still holds), else None: the normalizer will reject that record with its coordinates.
    """

    def __init__(self, source: SourceDescription) -> None:
        dataset = source.dataset
        types = {field.name: field.type for field in dataset.fields}
        self.columns = tuple(source.mapping.get(name, name) for name in dataset.key)
        self._parts = [
            (reader_of(types[name], source.readings.get(name, FieldReading())), _default(types[name], source))
            for name in dataset.key
        ]

    def of(self, values: Sequence[object]) -> str | None:
        """The key of one record. Pure; never raises."""
        parts = []
        for (normalize, default), value in zip(self._parts, values, strict=True):
            part = _part(normalize, value) or default
            if part is None:
                return None
            parts.append(part)
        return parts[0] if len(parts) == 1 else KEY_SEPARATOR.join(parts)


class JsonRecordKey:
    """The same for records that are JSON objects: reads the key's members only."""

    def __init__(self, source: SourceDescription) -> None:
        self._key = RecordKey(source)
        paths = [(column, member_path(column) or ()) for column in self._key.columns]
        self._columns = [(column, path or (column,)) for column, path in paths]
        wanted = dict.fromkeys([*self._key.columns, *(path[0] for _, path in paths if path)])
        names = {f"c{index}": name for index, name in enumerate(wanted)}
        self._attributes = [f"c{list(wanted).index(column)}" for column in self._key.columns]
        self._nested = [(name, names[name]) for name in names] if any(path for _, path in paths) else []
        members = msgspec.defstruct("Members", [(name, Any, None) for name in names], rename=names)
        # As the normalizer reads numbers: 1.10 and 1.1 are two texts, so they must be two keys here too.
        self._decode = msgspec.json.Decoder(members, float_hook=str).decode

    def of(self, value: bytes | msgspec.Raw) -> str | None:
        """The key of one record; None too where the value is no JSON object. Pure; never raises."""
        try:
            members = self._decode(value)
        except _HOSTILE:
            return None
        if self._nested:
            record = {column: getattr(members, name) for name, column in self._nested}
            return self._key.of([read_member(record, column, path) for column, path in self._columns])
        return self._key.of([getattr(members, attribute) for attribute in self._attributes])


def _default(field_type: FieldType, source: SourceDescription) -> str | None:
    if isinstance(field_type, FromSource):
        return {"kind": source.kind, "name": source.name}[field_type.part]
    return None


def _part(normalize: Normalize, value: object) -> str | None:
    try:
        normal = normalize(value)
        return None if normal is None else str(normal)
    except _HOSTILE:
        if not isinstance(value, str):
            return None
        return value[:LONGEST_KEY].encode("utf-8", "replace").decode()
