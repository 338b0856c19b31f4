"""Reads the raw records that coverage contains, window by window, from wherever they still are."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.errors import DeliveryFailed
from runtime.kafka.lookup import MOST_BYTES, Coordinates, RawLookup, RawMessage
from runtime.kafka.offset_ranges import OffsetRanges
from schemas.events import HEADER_KIND, HEADER_RUN, HEADER_SOURCE
from schemas.source_kinds import first_kind_in
from services.renormalizing import RawRecord
from stores.epochs import real_partition, real_topic
from stores.tables import raw_api_data, raw_csv_data

WINDOW = 2_000
"""Offsets of a partition that are read at once."""

Partition = tuple[str, int]
"""A raw topic and partition as coverage names them: of an ended epoch both are archived (`stores/epochs.py`)."""


class Window(NamedTuple):
    """The covered ones among WINDOW offsets of a partition, from `number` times WINDOW on."""

    partition: Partition
    number: int
    offsets: OffsetRanges


class Found(NamedTuple):
    """A record with its real coordinates. The landing tables keep no mapping, and not every kind."""

    partition: Partition
    record: RawRecord
    landed: bool


def windows(covered: Mapping[Partition, OffsetRanges], *, newest_first: bool) -> list[Window]:
    """All windows in the order in which their records are to be read: by epoch, partition and offset. Pure."""
    found = []
    for partition in sorted(covered, key=lambda partition: (_epoch(partition[0]), real_partition(partition[1]))):
        ranges = covered[partition]
        numbers = sorted({n for start, end in ranges for n in range(start // WINDOW, (end - 1) // WINDOW + 1)})
        found += [Window(partition, n, ranges.within(n * WINDOW, (n + 1) * WINDOW)) for n in numbers]
    return found[::-1] if newest_first else found


async def read_window(
    connection: AsyncConnection, lookup: RawLookup, window: Window, *, newest_first: bool
) -> AsyncIterator[list[Found]]:
    """The window's records that still exist, in order; in several parts where they are too large for one.

    Raises DeliveryFailed when Kafka does not give what it has, and what SQLAlchemy raises.
    """
    topic, partition = window.partition
    wanted = [offset for start, end in window.offsets for offset in range(start, end)]
    messages: Mapping[Coordinates, RawMessage] = {}
    problem = None
    if topic == real_topic(topic):
        messages, problem = await asyncio.to_thread(lookup.read_some, [(topic, partition, o) for o in wanted])
    missing = set(wanted) - {offset for _, _, offset in messages}
    if problem is None and missing and await _landed_bytes(connection, window.partition, missing) > MOST_BYTES:
        problem = "more bytes have landed than fit at once"
    if problem is None:
        found = {offset: _published(window.partition, offset, one) for (_, _, offset), one in messages.items()}
        found |= await _landed(connection, window.partition, missing) if missing else {}
        yield [found[offset] for offset in sorted(found, reverse=newest_first)]
        return
    if len(wanted) == 1:
        raise DeliveryFailed(f"{problem}; the same command goes on where this one ended")
    middle = wanted[len(wanted) // 2]
    halves = [window.offsets.within(0, middle), window.offsets.within(middle, wanted[-1] + 1)]
    for half in halves[::-1] if newest_first else halves:
        part = window._replace(offsets=half)
        async for records in read_window(connection, lookup, part, newest_first=newest_first):
            yield records


def _published(partition: Partition, offset: int, message: RawMessage) -> Found:
    record = RawRecord(*partition, offset, message.timestamp, message.key, message.value, message.headers)
    return Found(partition, record, landed=False)


async def _landed_bytes(connection: AsyncConnection, partition: Partition, offsets: set[int]) -> int:
    size = 0
    for table in (raw_api_data, raw_csv_data):
        c = table.c
        total = select(func.coalesce(func.sum(func.octet_length(c.payload)), 0))
        size += (await connection.execute(total.where(*_among(table, partition, offsets)))).scalar_one()
    return size


async def _landed(connection: AsyncConnection, partition: Partition, wanted: set[int]) -> dict[int, Found]:
    found = {}
    for table in (raw_api_data, raw_csv_data):
        kind = first_kind_in(table.name).encode()
        for row in (await connection.execute(select(table).where(*_among(table, partition, wanted)))).mappings():
            if row["offset"] in wanted:
                found[row["offset"]] = Found(partition, _record(dict(row), kind), landed=True)
    return found


def _among(table: Table, partition: Partition, offsets: set[int]) -> tuple[ColumnElement[bool], ...]:
    c = table.c
    return c.topic == partition[0], c.partition == partition[1], c.offset.between(min(offsets), max(offsets))


def _record(row: Mapping[str, Any], kind: bytes) -> RawRecord:
    source, run = row["source_name"], row["run_id"]
    given = {HEADER_SOURCE: source and source.encode(), HEADER_KIND: source and kind, HEADER_RUN: run and run.encode()}
    headers = tuple((name, value) for name, value in given.items() if value)
    key = None if row["key"] is None else row["key"].encode()
    milliseconds = round(row["received_at"].timestamp() * 1000)
    place = real_topic(row["topic"]), real_partition(row["partition"]), row["offset"], milliseconds
    return RawRecord(*place, key, row["payload"], headers)


def _epoch(topic: str) -> float:
    _, _, number = topic.partition("@")
    return int(number) if number else math.inf
