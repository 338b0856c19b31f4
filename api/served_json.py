"""How values are written in answers: decimals as exact JSON numbers, dates and times in ISO 8601, times in UTC."""

from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """`value` as compact JSON. `msgspec.Raw` parts pass through as they are."""
    return _encoder.encode(value)
