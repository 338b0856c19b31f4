"""Arrivals: the raw record that each stored key comes from, deleted ones included, and the order in which they came."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dataset import Dataset
from stores.tables import dataset_table, tombstones


class Arrival(NamedTuple):
    """Coordinates of a raw record in its dataset's raw topic. `timestamp` is the broker's, in ms since the epoch."""

    partition: int
    offset: int
    timestamp: int

    def is_newer_than(self, other: "Arrival") -> bool:
        """The order of arrival: by offset within a partition, by the broker's time across partitions."""
        if self.partition == other.partition:
            return self.offset > other.offset
        return (self.timestamp, *self) > (other.timestamp, *other)


async def stored_arrivals(connection: AsyncConnection, dataset: Dataset, keys: Iterable[str]) -> dict[str, Arrival]:
    """By key text, the arrival of the row, or of the delete that left none. Keys never stored are left out."""
    parts = [fields for key in dict.fromkeys(keys) if (fields := _fields(dataset, key)) is not None]
    if not parts:
        return {}
    table = dataset_table(dataset)
    columns = [table.c[name] for name in dataset.key]
    arrival = [table.c.raw_partition, table.c.raw_offset, table.c.raw_timestamp]
    rows = await connection.execute(select(*columns, *arrival).where(tuple_(*columns).in_(parts)))
    n = len(columns)
    found = {dataset.key_text(dict(zip(dataset.key, row[:n], strict=True))): Arrival(*row[n:]) for row in rows}
    texts = [dataset.key_text(dict(zip(dataset.key, fields, strict=True))) for fields in parts]
    return await _deletes(connection, dataset, texts) | found


async def _deletes(connection: AsyncConnection, dataset: Dataset, keys: Sequence[str]) -> dict[str, Arrival]:
    t = tombstones.c
    query = select(t.key, t.raw_partition, t.raw_offset, t.raw_timestamp).where(
        t.dataset == dataset.name, t.key.in_(keys)
    )
    return {key: Arrival(*arrival) for key, *arrival in await connection.execute(query)}


def _fields(dataset: Dataset, key: str) -> tuple[str, ...] | None:
    if "\x00" in key:
        return None
    try:
        return tuple(dataset.key_fields(key).values())
    except ValueError:
        return None  # A failure's key may be any text.
