"""Reads the books that the Postgres sink keeps: what has been stored, what failed, what is still on its way."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Integer, Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.offset_ranges import OffsetRanges
from runtime.tables import OUTCOMES, coverage

Wanted = Mapping[tuple[str, int], OffsetRanges]
"""Per (physical raw topic, partition), the offsets in question: as a producer's delivery reports name them."""

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5

_WANTED = "unnest(:topics, :partitions, :ranges) AS w (topic, partition, ranges)"

_PARAMETERS = (
    bindparam("topics", type_=ARRAY(Text)),
    bindparam("partitions", type_=ARRAY(Integer)),
    bindparam("ranges", type_=ARRAY(Text)),
)

_MISSING = text(f"""
    SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint
    FROM {_WANTED} LEFT JOIN coverage c USING (topic, partition),
        unnest(w.ranges::int8multirange - coalesce(c.ranges, '{{}}')) AS part""").bindparams(*_PARAMETERS)  # noqa: S608

_FAILED = text(f"""
    SELECT count(*) FROM {_WANTED} JOIN ingest_failures f USING (topic, partition)
    WHERE f."offset" BETWEEN lower(w.ranges::int8multirange) AND upper(w.ranges::int8multirange)
        AND f."offset" <@ w.ranges::int8multirange AND f.stage <> 'elasticsearch'""").bindparams(*_PARAMETERS)  # noqa: S608


@dataclass(frozen=True)
class Outcome:
    """Where the wanted records are: stored (also superseded, unchanged, deleted), failed, or not yet known."""

    stored: int
    failed: int
    pending: int


async def missing(connection: AsyncConnection, wanted: Wanted) -> int:
    """How many of the wanted records have reached no outcome yet."""
    return int((await connection.execute(_MISSING, _arguments(wanted))).scalar_one())


async def failed(connection: AsyncConnection, wanted: Wanted) -> int:
    """How many of the wanted records failed. Those that only Elasticsearch refused are stored, and not counted."""
    return int((await connection.execute(_FAILED, _arguments(wanted))).scalar_one())


async def outcome(connection: AsyncConnection, wanted: Wanted) -> Outcome:
    """Where the wanted records are now."""
    pending = await missing(connection, wanted)
    failures = await failed(connection, wanted)
    total = sum(len(ranges) for ranges in wanted.values())
    return Outcome(stored=max(0, total - pending - failures), failed=failures, pending=pending)


async def wait_until_covered(
    engine: AsyncEngine,
    wanted: Wanted,
    timeout_seconds: float,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Wait until every wanted record has reached an outcome, or the time is over; `pending` says how many have not.

    Asks a few times a second, holding no connection meanwhile. `progress` is called with the number still pending.
    Raises what SQLAlchemy raises when Postgres is gone.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        async with engine.connect() as connection:
            pending = await missing(connection, wanted)
            if progress is not None:
                progress(pending)
            left = deadline - time.monotonic()
            if pending == 0 or left <= 0:
                return await outcome(connection, wanted)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def _arguments(wanted: Wanted) -> dict[str, object]:
    places = sorted(wanted)
    return {
        "topics": [topic for topic, _ in places],
        "partitions": [partition for _, partition in places],
        "ranges": [wanted[place].multirange() for place in places],
    }


@dataclass(frozen=True)
class Books:
    """What the Postgres sink has booked of one raw partition: covered offsets, and how many ended where."""

    covered: OffsetRanges
    outcomes: Mapping[str, int]


async def read_books(connection: AsyncConnection) -> dict[tuple[str, int], Books]:
    """The books of every partition that has any, by physical topic and partition. One query."""
    rows = (await connection.execute(select(coverage))).mappings()
    return {
        (row["topic"], row["partition"]): Books(
            OffsetRanges((part.lower, part.upper) for part in row["ranges"]),
            {outcome: row[outcome] for outcome in OUTCOMES},
        )
        for row in rows
    }
