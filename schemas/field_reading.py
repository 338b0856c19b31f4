"""How one source's records give one field: from where, in which notation, and what holds where nothing is there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import msgspec

from schemas.fields import Date, FieldType, Number, Phone
from schemas.phone_numbers import check_region

DateOrder = Literal["day_first", "month_first"]
DecimalMark = Literal[".", ","]


class FieldReading(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, rename={"column": "from"}
):
    """In the mapping header, for a field that needs more than the name of its column.

    `column` is None for the column of the field's own name. `default` is a normal form of the field.
    """

    column: str | None = None
    default: str | int | None = None
    required: bool = False
    dates: DateOrder | None = None
    decimal: DecimalMark | None = None
    region: str | None = None

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


def read_as(field_type: FieldType, reading: FieldReading | None) -> FieldType:
    """The field type that understands the source's notation of dates, decimals and telephone numbers. Pure."""
    if reading is None:
        return field_type
    if reading.dates is not None and isinstance(field_type, Date):
        return replace(field_type, slashes=reading.dates)
    if reading.decimal is not None and isinstance(field_type, Number):
        return replace(field_type, decimal=reading.decimal)
    if reading.region is not None and isinstance(field_type, Phone):
        return replace(field_type, region=reading.region)
    return field_type
