"""The Kafka key of a raw record: the dataset's key in its normal form, so that one record always has one partition."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from producers.source import SourceDescription
from schemas.dataset import KEY_SEPARATOR
from schemas.errors import HOSTILE
from schemas.field_reading import (
    FieldReading,
    Normalize,
    member_path,
    plain_name,
    read_member,
    reader_of,
    with_plain_names,
)
from schemas.fields import FieldType, FromSource
from schemas.text import FRAMES, unmarked

LONGEST_KEY = 1000
"""Characters kept of a key that has no normal form; it only has to keep versions of one record in order."""


_BACKSLASH = ord("\\")


class RecordKey:
    """Makes the key from the values of `columns`, in that order.

    A column that a record lacks is None. The key is the normalized one where the values have a normal form, else the
    text as it is (order still holds), else None: the normalizer will reject that record with its coordinates.
    """

    def __init__(self, source: SourceDescription) -> None:
        dataset = source.dataset
        types = {field.name: field.type for field in dataset.fields}
        columns = [source.columns_of(name) for name in dataset.key]
        self.columns = tuple(plain_name(column) for several in columns for column in several)
        self._joined = len(self.columns) > len(columns)
        self._widths = [len(several) for several in columns]
        self.parts = [
            (reader_of(types[name], source.readings.get(name, FieldReading())), _default(types[name], source))
            for name in dataset.key
        ]

    def of(self, values: Sequence[object]) -> str | None:
        """The key of one record. Pure; never raises."""
        if self._joined:
            rest = iter(values)
            values = [next(rest) if width == 1 else list(islice(rest, width)) for width in self._widths]
        return self._of_fields(values)

    def of_id(self, value: object) -> str | None:
        """The key of the record that has this id, the key's last field, in this source. Pure; never raises."""
        return self._of_fields([*[None] * (len(self.parts) - 1), value])

    def _of_fields(self, values: Sequence[object]) -> str | None:
        if len(self.parts) == 1:
            normalize, default = self.parts[0]
            return _part(normalize, values[0]) or default
        parts = []
        for (normalize, default), value in zip(self.parts, values, strict=True):
            part = _part(normalize, value) or default
            if part is None:
                return None
            parts.append(part)
        return KEY_SEPARATOR.join(parts)


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
        self._fills = any(default is not None for _, default in self._key.parts)
        self._decode_all = msgspec.json.Decoder(dict[str, Any], float_hook=str).decode

    def of(self, value: bytes) -> str | None:
        """The key of one record; None too where the value is no JSON object. Pure; never raises."""
        key = None
        try:
            if not self._fills or _is_simple(value):
                key = self._of_members(value)
            return key or (None if _is_simple(value) else self._of_plain_names(value))
        except HOSTILE:
            return None

    def _of_members(self, value: bytes) -> str | None:
        """Reads the key's members only, by their exact names. None too where the value has a mark before it."""
        try:
            members = self._decode(value)
        except msgspec.DecodeError:
            return None
        if self._nested:
            record = {column: getattr(members, name) for name, column in self._nested}
            return self._key.of([read_member(record, column, path) for column, path in self._columns])
        return self._key.of([getattr(members, attribute) for attribute in self._attributes])

    def _of_plain_names(self, value: bytes) -> str | None:
        """The same, twice as slow, whatever marks are before the value and in its names."""
        record = with_plain_names(self._decode_all(unmarked(value)))
        return self._key.of([read_member(record, column, path) for column, path in self._columns])


def _is_simple(value: bytes) -> bool:
    """True if every name in it is what it looks like: all ASCII, no escapes, and nothing before the object."""
    return value.isascii() and _BACKSLASH not in value and not value.startswith(FRAMES)


def _default(field_type: FieldType, source: SourceDescription) -> str | None:
    if isinstance(field_type, FromSource):
        return {"kind": source.kind, "name": source.name}[field_type.part]
    return None


def _part(normalize: Normalize, value: object) -> str | None:
    try:
        normal = normalize(value)
        return None if normal is None else str(normal)
    except HOSTILE:
        if not isinstance(value, str):
            return None
        return value[:LONGEST_KEY].encode("utf-8", "replace").decode()
