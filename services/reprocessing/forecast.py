"""Foretells the outcomes of reprocessed records, as things stand now, by the order rule of the Postgres sink."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dataset import Dataset
from stores.arrivals import Arrival, stored_arrivals


class CleanData(NamedTuple):
    """A record as it is normalized now: its key, its fields, and the arrival that coverage has of it."""

    key: str
    data: Mapping[str, Any]
    own: Arrival


async def forecast(connection: AsyncConnection, dataset: Dataset, records: Sequence[CleanData]) -> Counter[str]:
    """How many of these would be `changed`, `unchanged` or `superseded`. Changes nothing."""
    arrivals = await stored_arrivals(connection, dataset, [record.key for record in records])
    rows = await _rows_like(connection, dataset, records)
    counts: Counter[str] = Counter()
    for number, record in enumerate(records):
        arrival = arrivals.get(record.key)
        if arrival is None:
            counts["changed"] += 1
        elif arrival[:2] == record.own[:2]:
            counts["changed" if rows.get(number) else "unchanged"] += 1
        elif dataset.first_wins and number in rows:
            counts["superseded" if record.own.is_newer_than(arrival) else "changed"] += 1
        else:
            counts["superseded" if arrival.is_newer_than(record.own) else "changed"] += 1
    return counts


async def _rows_like(connection: AsyncConnection, dataset: Dataset, records: Sequence[CleanData]) -> dict[int, bool]:
    """By number of each record whose key has a row: True if the row's content differs."""
    columns = [[_text(record.data.get(field.name)) for record in records] for field in dataset.fields]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return dict(map(tuple, await driver.fetch(_comparison(dataset), list(range(len(records))), *columns)))


@cache
def _comparison(dataset: Dataset) -> str:
    fields = {field.name: field.type.column() for field in dataset.fields}
    arrays = ", ".join(f"${n}::text[]" for n in range(2, len(fields) + 2))
    theirs = ", ".join(f't."{name}"' for name in fields)
    given = ", ".join(f'd."{name}"::{column}' for name, column in fields.items())
    same_key = " AND ".join(f't."{name}" = d."{name}"::{fields[name]}' for name in dataset.key)
    names = ", ".join(f'"{name}"' for name in fields)
    # As the sink stores them: Postgres rounds and compares.
    return f"""
        SELECT d.number, ({theirs}) IS DISTINCT FROM ({given})
        FROM unnest($1::int[], {arrays}) AS d (number, {names}) JOIN "{dataset.table}" t ON {same_key}"""  # noqa: S608


def _text(value: object) -> str | None:
    return None if value is None else str(value)
