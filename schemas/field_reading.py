"""How one source's records give one field: from where, in which notation, and what holds where nothing is there."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import msgspec

from schemas.errors import InvalidField
from schemas.fields import Date, Decimals, FieldType, FromSource, Number, Phone, Text
from schemas.phone_numbers import check_region
from schemas.whole_number import WholeNumber

DateOrder = Literal["day_first", "month_first"]
DecimalMark = Literal[".", ","]

NULLS = ("NA", "N/A", "#N/A", "<NA>", "NaN", "NULL", "None", "\\N")
"""What programs write for nothing, compared without case: R, spreadsheets, pandas, databases' dumps. Where nobody says
what it is in a source, a field that cannot read one of these has nothing; in a text it may be meant, and is kept."""

Normalize = Callable[[object], str | int | None]


class FieldReading(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, rename={"column": "from"}
):
    """In the mapping header, for a field that needs more than the name of its column.

    `column` is None for the column of the field's own name. `default` is a normal form of the field. `nulls` are the
    texts that mean nothing; None: NULLS, where the field cannot read them.
    """

    column: str | None = None
    default: str | int | None = None
    required: bool = False
    dates: DateOrder | None = None
    decimal: Decimals | None = None
    nulls: tuple[str, ...] | None = None
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


def reader_of(field_type: FieldType, reading: FieldReading) -> Normalize:
    """The field's `normalize` in the source's notation of dates, decimals and nothing. Pure."""
    if reading.dates is not None and isinstance(field_type, Date):
        field_type = replace(field_type, slashes=reading.dates)
    if reading.decimal is not None and isinstance(field_type, Number | WholeNumber):
        field_type = replace(field_type, decimal=reading.decimal)
    if reading.region is not None and isinstance(field_type, Phone):
        field_type = replace(field_type, region=reading.region)
    normalize = field_type.normalize
    if reading.nulls is None:
        return normalize if isinstance(field_type, Text | FromSource) else _nothing_where_unreadable(normalize)
    return _nothing_for(reading.nulls, normalize) if reading.nulls else normalize


def _nothing_where_unreadable(normalize: Normalize) -> Normalize:
    def read(value: object) -> str | int | None:  # on the hot path: what is readable costs a call more
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
