"""Books offsets that the broker has shown to carry no record, so that they stay proven (decision 0027)."""

from typing import Any

from runtime.kafka.offset_ranges import OffsetRanges

Connection = Any
"""An asyncpg.Connection; the library ships no types."""

_CREATE = "INSERT INTO coverage (topic, partition, ranges) VALUES ($1, $2, '{}') ON CONFLICT DO NOTHING"

# Only in the books of the incarnation that was read.
_BOOK = """
    UPDATE coverage c SET ranges = c.ranges + $3::text::int8multirange, void = c.void + (
        SELECT coalesce(sum(upper(part) - lower(part)), 0) FROM unnest($3::text::int8multirange - c.ranges) AS part)
    WHERE c.topic = $1 AND c.partition = $2 AND $4 = (
        SELECT e.topic_id FROM topic_epochs e WHERE e.topic = $1 ORDER BY e.epoch DESC LIMIT 1)"""


def bookable(accounted: OffsetRanges, empty: OffsetRanges) -> OffsetRanges:
    """Those of the empty offsets that join what is booked, or begin the partition. Pure.

    The others would only be more ranges to carry along: between records that are still to come there may be as many as
    there are transactions.
    """
    joined = OffsetRanges(sorted([*accounted, *empty]))
    kept = OffsetRanges()
    for start, end in joined:
        booked = accounted.first_from(start)
        if start == 0 or (booked is not None and booked[0] < end):
            kept.add_range(start, end)
    return kept.common(empty)


async def book_void(connection: Connection, place: tuple[str, int], empty: OffsetRanges, topic_id: str) -> None:
    """Account for these offsets of the topic with this id, which must have been it before they were read and after.

    Idempotent; changes nothing if Postgres keeps the books of another incarnation. Raises what asyncpg raises.
    """
    await connection.execute(_CREATE, *place)
    await connection.execute(_BOOK, *place, empty.multirange(), topic_id)
