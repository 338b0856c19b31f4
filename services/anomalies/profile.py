"""What a run looked like, as numbers by name: how much came, how much failed, and what was in the fields. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas.errors import HOSTILE
from services.anomalies.statistics import quantile

Features = dict[str, float]
"""`records` and `failure_rate`; per field of the source's records `null_rate:age`, `numeric_rate:age` (of what is not
null) and, where its values are numbers, `low:age`, `median:age` and `high:age`: 10th, 50th and 90th percentile."""

MAX_FIELDS = 100
"""Fields that are profiled: those that come first."""

MAX_NAME = 200

FEWEST_NUMBERS = 5
"""Numbers that it takes to speak of a distribution."""

NUMERIC = 0.9
"""A field has a distribution where so large a share of its values are numbers."""

LONGEST_NUMBER = 40
"""Characters; longer text is none."""

QUANTILES = {"low": 0.1, "median": 0.5, "high": 0.9}

_decode = msgspec.json.Decoder().decode


def profile(records: int, failed: int, payloads: Iterable[bytes]) -> Features:
    """The features of a run of `records`, `failed` of them failed, from a sample of the raw values. Never raises."""
    features: Features = {"records": float(records), "failure_rate": failed / records if records else 0.0}
    looked, present, numbers = 0, defaultdict[str, int](int), defaultdict[str, list[float]](list)
    fields: dict[str, None] = {}
    for payload in payloads:
        record = _object(payload)
        if record is None:
            continue
        looked += 1
        for name, value in record.items():
            if name not in fields and (len(fields) >= MAX_FIELDS or not _fits(name)):
                continue
            fields[name] = None
            if value is None or value == "":
                continue
            present[name] += 1
            if (number := _number(value)) is not None:
                numbers[name].append(number)
    for name in fields:
        features[f"null_rate:{name}"] = 1 - present[name] / looked
        if present[name]:
            features |= _distribution(name, sorted(numbers[name]), present[name])
    return features


def _distribution(name: str, ordered: list[float], present: int) -> Features:
    share = len(ordered) / present
    features = {f"numeric_rate:{name}": share}
    if len(ordered) >= FEWEST_NUMBERS and share >= NUMERIC:
        features |= {f"{which}:{name}": quantile(ordered, at) for which, at in QUANTILES.items()}
    return features


def _fits(name: str) -> bool:
    """Whether Postgres takes it as a key in JSON."""
    return len(name) <= MAX_NAME and "\x00" not in name and not any("\ud800" <= letter <= "\udfff" for letter in name)


def _object(payload: bytes) -> Mapping[str, Any] | None:
    try:
        record = _decode(payload)
    except HOSTILE:
        return None
    return record if type(record) is dict else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > LONGEST_NUMBER or "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    # Squares and differences of the largest ones would be infinite.
    return number if math.isfinite(number) and abs(number) < 1e100 else None
