"""An edited payload from field values. Pure."""

from collections.abc import Mapping

import msgspec

from schemas.byte_order_mark import unmarked
from schemas.dataset import Dataset
from schemas.events import HEADER_MAPPING
from schemas.field_reading import FieldReading, decode_mapping
from schemas.members import plain_name, with_plain_names
from services.failures.raw_records import Headers
from stores.failure_states import CannotEdit

_decode = msgspec.json.Decoder(float_hook=str).decode


def with_fields(payload: bytes | None, headers: Headers, values: Mapping[str, object], dataset: Dataset) -> bytes:
    """The payload with values set, all else as it is. A field is written to the column that the record's mapping names.

    Raises CannotEdit for a payload that is no JSON object, and for a name that is neither field nor column.
    """
    try:
        record = _decode(unmarked(payload or b""))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        record = None
    if isinstance(record, dict):
        record = with_plain_names(record)
    else:
        raise CannotEdit("the payload is no JSON object, so no field can be set; give all of it, with --file")
    readings = _readings(headers)
    fields = [field.name for field in dataset.fields]
    for name, value in values.items():
        if name not in fields and name not in record:
            raise CannotEdit(f"{name!r} is no field of {dataset.name}; its fields are: {', '.join(fields)}")
        reading = readings.get(name, FieldReading())
        if reading.columns:
            raise CannotEdit(f"{name} is joined from {', '.join(reading.columns)}; set these")
        record[plain_name(reading.column or name)] = value
    try:
        return msgspec.json.encode(record)
    except (UnicodeEncodeError, RecursionError) as error:
        raise CannotEdit(f"the payload cannot be written as JSON: {error}") from None


def _readings(headers: Headers) -> dict[str, FieldReading]:
    try:
        return decode_mapping(dict(headers).get(HEADER_MAPPING) or b"{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
