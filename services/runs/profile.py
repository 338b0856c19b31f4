"""The profile of a run, as numbers by name: how much came, how much failed, and what was in the fields.

The fields are those of a sample of its raw records from where they have landed: bounded, and spread over the run.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Integer, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.errors import HOSTILE
from stores.coverage import Wanted

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

MOST_RECORDS = 2_000
"""In a sample, however large the run: a share of them is known to about one in a hundred."""

LARGEST_PAYLOAD = 16_384
"""Bytes; larger values are left out of the sample."""

STILL_SECONDS = 0.5
"""The landing sink works beside the Postgres sink: the wait for it ends once nothing has landed for so long."""
LONGEST_SECONDS = 5.0
"""The wait ends after so long in any case: the sample is then what has landed."""

_PAUSE_SECONDS = 0.05

_LANDED = text(f"""
    WITH wanted AS (
        SELECT * FROM unnest(:topics, :partitions, :offsets) AS w (topic, partition, "offset")
    ), landed AS (
        SELECT payload FROM wanted JOIN raw_api_data USING (topic, partition, "offset")
        UNION ALL SELECT payload FROM wanted JOIN raw_csv_data USING (topic, partition, "offset")
    ) SELECT CASE WHEN octet_length(payload) <= {LARGEST_PAYLOAD} THEN payload END FROM landed""").bindparams(  # noqa: S608 (a number)
    bindparam("topics", type_=ARRAY(Text)),
    bindparam("partitions", type_=ARRAY(Integer)),
    bindparam("offsets", type_=ARRAY(BIGINT)),
)

_decode = msgspec.json.Decoder().decode


async def sample(engine: AsyncEngine, wanted: Wanted) -> list[bytes]:
    """The values of a sample of these records, as far as they have landed within a few seconds. Deletes have none.

    Raises what SQLAlchemy raises when Postgres is gone.
    """
    places = coordinates_to_sample(wanted)
    arguments = {
        "topics": [topic for topic, _, _ in places],
        "partitions": [partition for _, partition, _ in places],
        "offsets": [offset for _, _, offset in places],
    }
    landed: list[bytes | None] = []
    started = moved = time.monotonic()
    while len(landed) < len(places):
        async with engine.connect() as connection:
            found = list((await connection.execute(_LANDED, arguments)).scalars())
        now = time.monotonic()
        if len(found) > len(landed):
            moved = now
        landed = found
        if now - moved > STILL_SECONDS or now - started > LONGEST_SECONDS:
            break
        if len(landed) < len(places):
            await asyncio.sleep(_PAUSE_SECONDS)
    return [bytes(payload) for payload in landed if payload is not None]


def coordinates_to_sample(wanted: Wanted, most: int = MOST_RECORDS) -> list[tuple[str, int, int]]:
    """The coordinates to look at: all if there are no more than `most`, else so many at equal distances. Pure."""
    total = sum(len(ranges) for ranges in wanted.values())
    count = min(total, most)
    places = (number * total // count for number in range(count))
    return list(_at(wanted, places)) if count else []


def _at(wanted: Wanted, numbers: Iterator[int]) -> Iterator[tuple[str, int, int]]:
    """The coordinates of the records with these numbers, ascending, counted over all ranges in order."""
    passed, number = 0, next(numbers, None)
    for (topic, partition), ranges in sorted(wanted.items()):
        for start, end in ranges:
            while number is not None and number < passed + end - start:
                yield topic, partition, start + number - passed
                number = next(numbers, None)
            passed += end - start


def profile(records: int, failed: int, payloads: Iterable[bytes]) -> Features:
    """The features of a run of `records`, `failed` of which failed, and of a sample of its raw values. Pure.

    Never raises.
    """
    features: Features = {"records": float(records), "failure_rate": failed / records if records else 0.0}
    looked, present, numbers = 0, defaultdict[str, int](int), defaultdict[str, list[float]](list)
    fields: dict[str, None] = {}
    for payload in payloads:
        record = _object(payload)
        if record is None:
            continue
        looked += 1
        for name, value in record.items():
            if name not in fields and (len(fields) >= MAX_FIELDS or not _storable(name)):
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


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the ordered values lie, interpolated. Needs one value at least."""
    position = share * (len(ordered) - 1)
    lower = int(position)
    upper = min(lower + 1, len(ordered) - 1)
    weight = position - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def _storable(name: str) -> bool:
    """Postgres takes it as a key in JSON."""
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
