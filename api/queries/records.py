"""Single records and pages of a dataset's table, in the order of its key.

In lists a text without a limit is cut, so that a page has an end. The record itself has all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, case, false, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dataset import Dataset
from schemas.fields import Text
from schemas.text import fold
from stores.row_counts import rows_stored
from stores.tables import dataset_table

Row = Mapping[str, Any]

LISTED_CHARACTERS = 10_000

CUT = "…"


@dataclass(frozen=True)
class VersionedRow:
    """A row as served, and the version of it that was read."""

    row: Row
    version: int


@dataclass(frozen=True)
class Slice:
    """Some consecutive rows; `more` says whether others follow."""

    rows: list[Row]
    more: bool


def served_columns(dataset: Dataset) -> list[Column[Any]]:
    """The columns that answers carry, in their order: id if there is one, the fields, created_at, updated_at."""
    columns = dataset_table(dataset).c
    names = [*(["id"] if dataset.serial_id else []), *(field.name for field in dataset.fields)]
    return [columns[name] for name in (*names, "created_at", "updated_at")]


async def read_one(connection: AsyncConnection, dataset: Dataset, key: Mapping[str, str]) -> VersionedRow | None:
    """The record with this key."""
    table = dataset_table(dataset)
    query = select(*served_columns(dataset), table.c.version).where(*(table.c[k] == value for k, value in key.items()))
    found = (await connection.execute(query)).mappings().one_or_none()
    if found is None:
        return None
    row = dict(found)
    return VersionedRow(version=row.pop("version"), row=row)


async def count(connection: AsyncConnection, dataset: Dataset, *conditions: ColumnElement[bool]) -> int:
    """Number of records that satisfy all conditions; costs nothing where there are none."""
    if not conditions:
        return await rows_stored(connection, dataset.table)
    query = select(func.count()).select_from(dataset_table(dataset)).where(*conditions)
    return int((await connection.execute(query)).scalar_one())


def containing(dataset: Dataset, text: str) -> ColumnElement[bool]:
    """The condition that `text` is anywhere in the searched fields, whatever its case and accents.

    `%`, `_` and the escape character stand for themselves. Accents without a letter are in no record.
    """
    folded = fold(text)
    return dataset_table(dataset).c.search_text.contains(folded, autoescape=True) if folded else false()


async def slice_and_count(
    connection: AsyncConnection, dataset: Dataset, offset: int, limit: int, *conditions: ColumnElement[bool]
) -> tuple[Slice, int]:
    """`limit` records from `offset` on, and the number of all that satisfy the conditions."""
    total = await count(connection, dataset, *conditions)
    if offset >= total:
        return Slice([], more=False), total  # Postgres would walk through the whole index to find nothing.
    return await slice_at(connection, dataset, offset, limit, *conditions), total


async def slice_at(
    connection: AsyncConnection, dataset: Dataset, offset: int, limit: int, *conditions: ColumnElement[bool]
) -> Slice:
    """`limit` records from `offset` on, with long texts cut."""
    return await _slice(connection, _in_order(dataset).where(*conditions).offset(offset), limit)


async def slice_after(
    connection: AsyncConnection, dataset: Dataset, key: tuple[str, ...], limit: int, *conditions: ColumnElement[bool]
) -> Slice:
    """`limit` records after `key`, which need not exist, with long texts cut; from the start for an empty key.

    Costs the same however far into the table it is, unlike an offset.
    """
    query = _in_order(dataset).where(*conditions)
    if key:
        query = query.where(tuple_(*_key_columns(dataset)) > tuple_(*key))
    return await _slice(connection, query, limit)


def unlimited_fields(dataset: Dataset) -> frozenset[str]:
    """The fields that hold text of any length."""
    return frozenset(f.name for f in dataset.fields if isinstance(f.type, Text) and f.type.max_length is None)


def cut_text(text: str | None) -> str | None:
    """A text as lists show it."""
    return text[:LISTED_CHARACTERS] + CUT if text is not None and len(text) > LISTED_CHARACTERS else text


async def _slice(connection: AsyncConnection, query: Select[Any], limit: int) -> Slice:
    # One more than asked for tells whether others follow, without counting.
    rows: list[Row] = [dict(row) for row in (await connection.execute(query.limit(limit + 1))).mappings()]
    return Slice(rows[:limit], more=len(rows) > limit)


def _in_order(dataset: Dataset) -> Select[Any]:
    unlimited = unlimited_fields(dataset)
    columns = [_cut(column) if column.name in unlimited else column for column in served_columns(dataset)]
    return select(*columns).order_by(*_key_columns(dataset))


def _cut(column: Column[Any]) -> ColumnElement[Any]:
    """The same as `cut_text`, done by Postgres."""
    beginning = func.left(column, LISTED_CHARACTERS) + CUT
    return case((func.char_length(column) > LISTED_CHARACTERS, beginning), else_=column).label(column.name)


def _key_columns(dataset: Dataset) -> list[Column[Any]]:
    return [dataset_table(dataset).c[name] for name in dataset.key]
