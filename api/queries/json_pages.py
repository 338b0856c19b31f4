"""Pages of a whole dataset as Postgres writes them in JSON: their bytes pass through the API as they are.

They are those of `api.answers.encode`, which a test compares for every dataset and kind of value. Where Postgres would
write a number in another way (0.0000001 is 1E-7 there), it gives no JSON, and the page is read row by row.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec
from sqlalchemy import DATE, NUMERIC, Column, DateTime, Integer, String
from sqlalchemy.ext.asyncio import AsyncEngine

from api.database import fetch
from api.queries.records import CUT, LISTED_CHARACTERS, served_columns, unlimited_fields
from schemas.dataset import Dataset
from stores.row_counts import OF_TABLE
from stores.tables import dataset_table

_AS_IT_IS = (String, Integer, DATE)
"""Column types whose values are the same in Postgres' JSON and in ours."""

Place = Literal["start", "after", "offset"]


@dataclass(frozen=True)
class JsonSlice:
    """Some consecutive records as a JSON array, and the number of all; `last` is the key of the last one, () of none.

    `more` says whether others follow.
    """

    data: msgspec.Raw
    total: int
    more: bool
    last: tuple[str, ...]


async def json_slice(
    engine: AsyncEngine, dataset: Dataset, after: tuple[str, ...], offset: int, limit: int
) -> JsonSlice | None:
    """`limit` records after the key `after`, which need not exist, or if that is () from `offset` on; long texts cut.

    None where Postgres' JSON would be another than ours. Raises Unavailable, TableMisfit.
    """
    place: Place = "after" if after else "offset" if offset else "start"
    values: tuple[object, ...] = after or ((offset,) if offset else ())
    query = _query(dataset, limit + 1, place)
    if query is None:
        return None
    rows = await fetch(engine, query, *values)
    total: int = rows[0]["total"]
    if rows[0][dataset.key[0]] is None:
        return JsonSlice(msgspec.Raw(b"[]"), total, more=False, last=())
    records = [row["record"] for row in rows[:limit]]
    if None in records:
        return None
    last = tuple(rows[len(records) - 1][name] for name in dataset.key)
    return JsonSlice(msgspec.Raw(f"[{','.join(records)}]".encode()), total, len(rows) > limit, last)


@lru_cache(1000)
def _query(dataset: Dataset, records: int, place: Place) -> str | None:
    """The statement for so many records after the key `$1`, …, from the offset `$1` on, or from the start; None for a
    dataset without one.

    The number is no parameter: Postgres takes an unknown one for a tenth of the table, and to do better it would plan
    each execution, which takes 130 of 200 µs. It still does that for an offset.
    """
    columns = served_columns(dataset)
    unlimited = unlimited_fields(dataset)
    written = [_written(column, cut=column.name in unlimited) for column in columns]
    if None in written:
        return None
    plain = [condition for column in columns if (condition := _is_plain(column))]
    keys = ", ".join(f'"{name}"' for name in dataset.key)
    given = ", ".join(f"${number}" for number in range(1, 1 + len(dataset.key)))
    where, offset = {
        "start": ("", ""),
        "after": (f"WHERE ({keys}) > ({given})", ""),
        # Past the end Postgres would walk through the whole index to find nothing.
        "offset": ("WHERE $1::bigint < counted.total", "OFFSET $1::bigint"),
    }[place]
    return f"""
        SELECT CASE WHEN {" AND ".join(plain)} THEN row_to_json(page)::text END AS record, {keys}, total
        FROM ({OF_TABLE}'{dataset.table}') AS counted (total)
        LEFT JOIN LATERAL (
            SELECT {", ".join(str(one) for one in written)}
            FROM "{dataset_table(dataset).name}" {where} ORDER BY {keys} LIMIT {records} {offset}
        ) AS page ON true
        ORDER BY {keys}"""  # noqa: S608 (names of a declaration, a number)


def _written(column: Column[Any], *, cut: bool) -> str | None:
    """The column as the record's JSON takes it, None for a type of which that is not known."""
    bare = f'"{column.name}"'
    name = f'"{column.table.name}".{bare}'
    if isinstance(column.type, DateTime):
        # The connection's time zone is UTC. Without a fraction where there is none.
        form = 'YYYY-MM-DD"T"HH24:MI:SS'
        whole, with_fraction = f"""to_char({name}, '{form}"Z"')""", f"""to_char({name}, '{form}.US"Z"')"""
        endless = f"WHEN NOT isfinite({name}) THEN 'infinity'"
        return (
            f"CASE {endless} WHEN date_trunc('second', {name}) = {name} THEN {whole} ELSE {with_fraction} END AS {bare}"
        )
    if cut:
        beginning = f"left({name}, {LISTED_CHARACTERS}) || '{CUT}'"
        return f"CASE WHEN char_length({name}) > {LISTED_CHARACTERS} THEN {beginning} ELSE {name} END AS {bare}"
    return name if isinstance(column.type, (*_AS_IT_IS, NUMERIC)) else None


def _is_plain(column: Column[Any]) -> str | None:
    """The condition that a value is written in one way only: no exponent, no infinity, not NaN. None: it always is."""
    name = f'page."{column.name}"'
    if isinstance(column.type, NUMERIC):
        plain = f"scale({name}) BETWEEN 1 AND 6 OR scale({name}) > 6 AND abs({name}) >= 0.000001"
        return f"({name} IS NULL OR coalesce({plain}, false))"
    if isinstance(column.type, DateTime):
        return f"{name} IS DISTINCT FROM 'infinity'"
    return f"isfinite({name}) IS NOT FALSE" if isinstance(column.type, DATE) else None
