"""The raw record that each stored key comes from, deleted ones included."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dataset import Dataset
from schemas.events import Origin
from stores.tables import dataset_table, tombstones


async def stored_origins(connection: AsyncConnection, dataset: Dataset, keys: Iterable[str]) -> dict[str, Origin]:
    """By key text, the origin of the row, or of the delete that left none. Keys never stored are left out.

    `topic` is the dataset's raw topic by its logical name.
    """
    parts = [fields for key in dict.fromkeys(keys) if (fields := _fields(dataset, key)) is not None]
    if not parts:
        return {}
    table = dataset_table(dataset)
    columns = [table.c[name] for name in dataset.key]
    coordinates = [table.c.raw_partition, table.c.raw_offset, table.c.raw_timestamp]
    rows = await connection.execute(select(*columns, *coordinates).where(tuple_(*columns).in_(parts)))
    n = len(columns)
    found = {
        dataset.key_text(dict(zip(dataset.key, row[:n], strict=True))): Origin(dataset.raw_topic, *row[n:])
        for row in rows
    }
    texts = [dataset.key_text(dict(zip(dataset.key, fields, strict=True))) for fields in parts]
    return await _deletes(connection, dataset, texts) | found


async def _deletes(connection: AsyncConnection, dataset: Dataset, keys: Sequence[str]) -> dict[str, Origin]:
    t = tombstones.c
    query = select(t.key, t.raw_partition, t.raw_offset, t.raw_timestamp).where(
        t.dataset == dataset.name, t.key.in_(keys)
    )
    return {key: Origin(dataset.raw_topic, *row) for key, *row in await connection.execute(query)}


def _fields(dataset: Dataset, key: str) -> tuple[str, ...] | None:
    if "\x00" in key:
        return None
    try:
        return tuple(dataset.key_fields(key).values())
    except ValueError:
        return None  # A failure's key may be any text.
