"""Reading of one field from one source's records: its column, the notation there, and the value where there is none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from schemas.errors import InvalidField
from schemas.fields import Date, Decimals, FieldType, FromSource, Number, Phone, Text, WholeNumber, check_region
from schemas.fields.field_type import Shortcut
from schemas.text import UNSEEN, tidy

DateOrder = Literal["day_first", "month_first"]
DecimalMark = Literal[".", ","]

NULLS = ("NA", "N/A", "#N/A", "<NA>", "NaN", "NULL", "None", "\\N")
"""Texts that programs write for nothing (R, spreadsheets, pandas, databases' dumps), compared without case. If nobody
says what it is in a source, a field that cannot read one has nothing; in a text it may be meant, and is kept."""

Normalize = Callable[[object], str | int | None]


class FieldReading(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, rename={"column": "from"}
):
    """Rules for reading one field, in the mapping header: for a field that needs more than the name of its column.

    `column` is None for the column of the field's own name. `default` is a normal form of the field. `nulls` are the
    texts that mean nothing; None: NULLS, where the field cannot read them. `columns` are those whose values, joined,
    are the field; there is no `column` then.
    """

    column: str | None = None
    default: str | int | None = None
    required: bool = False
    dates: DateOrder | None = None
    decimal: Decimals | None = None
    nulls: tuple[str, ...] | None = None
    region: str | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError, which is a ValidationError of msgspec's where a header is decoded."""
        if self.region is not None:
            check_region(self.region)


Mapped = str | FieldReading
"""A field's entry in the mapping header: the name of its column, or all that is to be known."""

_decode = msgspec.json.Decoder(dict[str, Mapped]).decode
_encode = msgspec.json.Encoder().encode


def encode_mapping(readings: Mapping[str, FieldReading]) -> bytes | None:
    """The mapping header; None where there is nothing to say. A field with a column only is `{field: column}`."""
    entries: dict[str, Mapped] = {
        name: reading.column if reading == FieldReading(reading.column) and reading.column else reading
        for name, reading in readings.items()
        if reading != FieldReading()
    }
    return _encode(entries) if entries else None


def decode_mapping(value: bytes) -> dict[str, FieldReading]:
    """The inverse. Raises msgspec.DecodeError, UnicodeError, RecursionError."""
    return {name: FieldReading(entry) if isinstance(entry, str) else entry for name, entry in _decode(value).items()}


LONGEST_INDEX = 6
"""Digits of an array index."""


def member_path(column: str) -> tuple[str, ...] | None:
    """The parts of a dotted path into nested JSON, `author.name` or `links.0.href`; None for a plain name.

    A name with an empty part (`a..b`, `a.`) is a plain one.
    """
    parts = tuple(column.split("."))
    return parts if len(parts) > 1 and all(parts) else None


def read_member(record: dict[str, Any], column: str, path: tuple[str, ...]) -> Any:
    """The member that is named so as a whole, else the one at the path; None where there is neither. Pure."""
    value: Any = record.get(column)
    if value is not None:
        return value
    value = record
    for part in path:
        if isinstance(value, dict):
            value = value[part] if part in value else with_plain_names(value).get(part)
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) <= LONGEST_INDEX:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def plain_name(name: str) -> str:
    """A member's or column's name as people see it: without marks and what else is invisible, with single spaces."""
    if name.isascii():
        return name
    try:
        return tidy(name, None, UNSEEN) or name
    except InvalidField:
        return name


def with_plain_names(record: dict[str, Any]) -> dict[str, Any]:
    """A record under the plain names of its members. One that has its plain name goes before others that get it."""
    if "".join(record).isascii():
        return record
    plain: dict[str, Any] = {}
    for name, value in record.items():
        plain.setdefault(plain_name(name), value)
    return plain | {name: record[name] for name in plain.keys() & record.keys()}


def joined(values: Sequence[object]) -> str | None:
    r"""One text for several values, and another one for others: `a|b`, with a backslash before a `|` or `\` of a value.

    Each value is tidied; None if there is nothing in any of them. Pure. Raises InvalidField for what is no text.
    """
    texts = [tidy(value) or "" for value in values]
    if not any(texts):
        return None
    return "|".join([text.replace("\\", "\\\\").replace("|", "\\|") for text in texts])


def reader_of(field_type: FieldType, reading: FieldReading) -> Normalize:
    """The field's `normalize` in the source's notation of dates, decimals and nothing, of a list if it has several
    columns. Pure.
    """
    normalize = _reader_of_one(field_type, reading)
    if not reading.columns:
        return normalize
    # Joined here, where what is no text among the values fails the field.
    return lambda values: normalize(joined(values) if isinstance(values, list) else values)


def shortcut_of(field_type: FieldType, reading: FieldReading) -> Shortcut:
    """The field's `shortcut` in that notation: it never gives what the reader would not give. Pure."""
    if reading.nulls or reading.columns:
        return _look_closer
    return _in_notation_of(field_type, reading).shortcut() or _look_closer


def _look_closer(_: object) -> None:
    return None


def _in_notation_of(field_type: FieldType, reading: FieldReading) -> FieldType:
    """The field type as it reads a source's dates, numbers and telephone numbers."""
    if reading.dates is not None and isinstance(field_type, Date):
        field_type = replace(field_type, slashes=reading.dates)
    if reading.decimal is not None and isinstance(field_type, Number | WholeNumber):
        field_type = replace(field_type, decimal=reading.decimal)
    if reading.region is not None and isinstance(field_type, Phone):
        field_type = replace(field_type, region=reading.region)
    return field_type


def _reader_of_one(field_type: FieldType, reading: FieldReading) -> Normalize:
    field_type = _in_notation_of(field_type, reading)
    normalize: Normalize = field_type.normalize
    if reading.nulls is None and not isinstance(field_type, Text | FromSource):
        normalize = _nothing_where_unreadable(normalize)
    if (shortcut := field_type.shortcut()) is not None:
        normalize = _first_by(shortcut, normalize)
    return _nothing_for(reading.nulls, normalize) if reading.nulls else normalize


def _first_by(shortcut: Shortcut, normalize: Normalize) -> Normalize:
    def read(value: object) -> str | int | None:
        normal = shortcut(value)
        return normalize(value) if normal is None else normal

    return read


def _nothing_where_unreadable(normalize: Normalize) -> Normalize:
    def read(value: object) -> str | int | None:
        try:
            return normalize(value)
        except InvalidField:
            if isinstance(value, str) and value.strip().casefold() in _NULLS:
                return None
            raise

    return read


def _nothing_for(texts: tuple[str, ...], normalize: Normalize) -> Normalize:
    nulls = _folded(texts)

    def read(value: object) -> str | int | None:
        if isinstance(value, str | int) and str(value).strip().casefold() in nulls:
            return None
        return normalize(value)

    return read


def _folded(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(text.strip().casefold() for text in texts)


_NULLS = _folded(NULLS)
