"""The quick way to read plain records, as most are: JSON objects of nothing but the columns that are read.

`reading_plan.read_fields` is the judge of all others, and of each record in which anything is odd. What is read here is
what it would read: a test holds that for any record.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from schemas.errors import HOSTILE
from schemas.field_reading import Normalize
from schemas.fields.field_type import Shortcut

REMEMBERED = 256
"""Rows of columns whose decoder is kept: a source has the same in each of its runs."""

Values = list[str | int | None]


class PlainField(NamedTuple):
    """The rules for one field, as in a FieldStep, with the shortcut of its type."""

    column: str
    shortcut: Shortcut
    normalize: Normalize
    required: bool
    filled: Any


class PlainReading:
    """Reads the records of one source. Made by `plain_reading`."""

    def __init__(self, fields: Sequence[PlainField]) -> None:
        self._fields = fields
        self._most = len(fields)
        self._decode = _decoder(tuple(field.column for field in fields))
        self._values = _each_by_its(tuple(field.shortcut for field in fields))

    def read(self, value: bytes) -> Values | None:
        """The fields' normal forms in order; None for a record that is not plain or of which a field is refused.

        Pure. Raises nothing that a record can cause.
        """
        colons = value.count(b":")
        if colons > self._most:
            return None  # further members, or one twice; or a colon in a text
        try:
            members = self._decode(value)
            values = self._values(members)
            there = self._most if all(values) else self._look_closer(astuple(members), values)
        except HOSTILE:
            return None
        # Each member takes a colon, so with as many as there are members none of these came twice.
        return values if there == colons else None

    def _look_closer(self, members: Sequence[Any], values: Values) -> int:
        """Put in what the shortcuts did not see. Returns the number of members that the record has."""
        there = len(members)
        for place, normal in enumerate(values):
            if normal is None:
                _, _, normalize, required, filled = self._fields[place]
                member = members[place]
                if member is msgspec.UNSET:
                    there -= 1
                    member = None
                value = normalize(member)
                if value is None and filled is not None:
                    value = normalize(filled)
                if value is None and required:
                    raise ValueError(place)
                values[place] = value
        return there


def plain_reading(fields: Sequence[PlainField]) -> PlainReading | None:
    """The reading of records that have these columns and no others; None where a decoder cannot be made for them."""
    columns = [field.column for field in fields]
    if len(set(columns)) < len(columns) or any(json.dumps(name, ensure_ascii=False) != f'"{name}"' for name in columns):
        return None
    return PlainReading(fields)


def _each_by_its(shortcuts: Sequence[Shortcut]) -> Callable[[Any], Values]:
    """A function that calls the first shortcut with the first member, and so on, written out: a loop takes half as long
    again, since Python calls quickly where it has called the same function before.
    """
    calls = ", ".join(f"shortcut{number}(members.c{number})" for number in range(len(shortcuts)))
    names = {f"shortcut{number}": shortcut for number, shortcut in enumerate(shortcuts)}
    written_out: Callable[[Any], Values] = eval(f"lambda members: [{calls}]", names)  # noqa: S307 (ours, as it stands)
    return written_out


@lru_cache(REMEMBERED)
def _decoder(columns: tuple[str, ...]) -> Any:
    """Decodes an object of these members, or some of them, into a struct. Numbers as in `decode_object`."""
    names = [f"c{number}" for number in range(len(columns))]
    members = msgspec.defstruct(
        "Members",
        [(name, Any, msgspec.UNSET) for name in names],
        rename=dict(zip(names, columns, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(members, float_hook=str).decode
