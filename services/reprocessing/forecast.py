"""Foretells the outcomes of reprocessed records, as things stand now, by the order rule of the Postgres sink."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dataset import Dataset
from schemas.events import DELETED, CleanRecord
from services.reprocessing.covered_records import Partition
from stores.origins import stored_origins
from stores.tables import same_key, sql_name


async def forecast(
    connection: AsyncConnection, dataset: Dataset, records: Sequence[tuple[Partition, CleanRecord]]
) -> Counter[str]:
    """Outcomes to expect: how many would be `changed`, `unchanged` or `superseded`. Deletes are left out."""
    kept = [(partition, record) for partition, record in records if bytes(record.data) != DELETED]
    if not kept:
        return Counter()
    origins = await stored_origins(connection, dataset, [record.key for _, record in kept])
    rows = await _rows_like(connection, dataset, [msgspec.json.decode(record.data) for _, record in kept])
    counts: Counter[str] = Counter()
    for number, (partition, record) in enumerate(kept):
        own = structs.replace(record.origin, partition=partition[1])
        stored = origins.get(record.key)
        if stored is None:
            counts["changed"] += 1
        elif (stored.partition, stored.offset) == (own.partition, own.offset):
            counts["changed" if rows.get(number) else "unchanged"] += 1
        elif dataset.first_wins and number in rows:
            counts["superseded" if own.is_newer_than(stored) else "changed"] += 1
        else:
            counts["superseded" if stored.is_newer_than(own) else "changed"] += 1
    return counts


async def _rows_like(
    connection: AsyncConnection, dataset: Dataset, records: Sequence[Mapping[str, Any]]
) -> dict[int, bool]:
    """By number of each record whose key has a row: True if the row's content differs."""
    columns = [[_text(record.get(field.name)) for record in records] for field in dataset.fields]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return dict(map(tuple, await driver.fetch(_comparison(dataset), list(range(len(records))), *columns)))


@cache
def _comparison(dataset: Dataset) -> str:
    fields = {field.name: sql_name(field.type.sql_type()) for field in dataset.fields}
    arrays = ", ".join(f"${n}::text[]" for n in range(2, len(fields) + 2))
    theirs = ", ".join(f't."{name}"' for name in fields)
    given = ", ".join(f'd."{name}"::{column}' for name, column in fields.items())
    names = ", ".join(f'"{name}"' for name in fields)
    # As the sink stores them: Postgres rounds and compares. No field's name begins with an underscore.
    return f"""
        SELECT d._number, ({theirs}) IS DISTINCT FROM ({given})
        FROM unnest($1::int[], {arrays}) AS d (_number, {names})
            JOIN "{dataset.table}" t ON {same_key(dataset, "d")}"""  # noqa: S608


def _text(value: object) -> str | None:
    return None if value is None else str(value)
