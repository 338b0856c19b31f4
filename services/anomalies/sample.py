"""Takes a sample of a run's raw records from where they have landed: bounded, and spread over the whole run."""

import asyncio
import time
from collections.abc import Iterator

from sqlalchemy import Integer, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlalchemy.ext.asyncio import AsyncEngine

from stores.coverage import Wanted

MOST_RECORDS = 2_000
"""That are looked into, however large the run: a share of them is known to about one in a hundred."""

LARGEST_PAYLOAD = 16_384
"""Bytes; larger values are left out of the sample."""

STILL_SECONDS = 0.5
"""The landing sink works beside the Postgres sink: who waits for it gives up once nothing has landed for so long."""
LONGEST_SECONDS = 5.0
"""And after so long in any case: the sample is then what has landed."""

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


def chosen(wanted: Wanted, most: int = MOST_RECORDS) -> list[tuple[str, int, int]]:
    """The coordinates to look at: all if there are no more than `most`, else so many at equal distances. Pure."""
    total = sum(len(ranges) for ranges in wanted.values())
    count = min(total, most)
    places = (number * total // count for number in range(count))
    return list(_at(wanted, places)) if count else []


async def sample(engine: AsyncEngine, wanted: Wanted) -> list[bytes]:
    """The values of a sample of these records, as far as they have landed within a few seconds. Deletes have none.

    Raises what SQLAlchemy raises when Postgres is gone.
    """
    places = chosen(wanted)
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


def _at(wanted: Wanted, numbers: Iterator[int]) -> Iterator[tuple[str, int, int]]:
    """The coordinates of the records with these numbers, ascending, counted over all ranges in order."""
    passed, number = 0, next(numbers, None)
    for (topic, partition), ranges in sorted(wanted.items()):
        for start, end in ranges:
            while number is not None and number < passed + end - start:
                yield topic, partition, start + number - passed
                number = next(numbers, None)
            passed += end - start
