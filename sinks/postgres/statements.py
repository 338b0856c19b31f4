"""The SQL of a dataset's merge, derived from its declaration: only names of ours are put into it. Pure."""

# ruff: noqa: S608

from collections.abc import Iterable
from functools import cache

from schemas.dataset import Dataset
from stores.tables import same_key

TIMESTAMP = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
"""As msgspec writes a time, so that an event that is published again says the same."""

INSERTED, UPDATED, UNCHANGED = range(3)
"""Codes of outcomes in the merge's answer."""

MOVED = "t.raw_partition >= 0 AND excluded.raw_partition >= 0 AND t.raw_partition <> excluded.raw_partition"
"""The record is of another partition than the row's: a foreign producer's partitioner, or partitions were added."""

ORDINAL = "_ordinal"
"""Column of the staging table. No field's name begins with an underscore."""

COORDINATES = {"raw_partition": "int", "raw_offset": "bigint", "raw_timestamp": "bigint"}


def key_columns(dataset: Dataset, keys: Iterable[str]) -> list[list[str]]:
    """One array per key column, as the statements below take keys. Raises ValueError for what can be no key."""
    fields = [dataset.key_fields(key) for key in keys]
    return [[one[name] for one in fields] for name in dataset.key]


def stage(dataset: Dataset) -> str:
    """Name of the staging table; one per connection, emptied at the end of each transaction."""
    return f"stage_{dataset.table}"


@cache
def staged_columns(dataset: Dataset) -> tuple[str, ...]:
    """The columns of the staging table."""
    return ORDINAL, *_stored(dataset)


@cache
def create_stage(dataset: Dataset) -> str:
    """Make the staging table."""
    return (
        f'CREATE TEMP TABLE IF NOT EXISTS "{stage(dataset)}" ON COMMIT DELETE ROWS AS '
        f'SELECT 0 AS {ORDINAL}, {_list(_stored(dataset))} FROM "{dataset.table}" WITH NO DATA'
    )


@cache
def merge(dataset: Dataset, *, some: bool = False) -> str:
    """Insert or update everything staged, or the ordinals in $1.

    Returns one row: now, and arrays of key text, version, outcome's code, created_at of what was not inserted,
    updated_at of what is unchanged, and id if any; NULL where nothing changed.
    """
    stored = _stored(dataset)
    contents = [field.name for field in dataset.fields if field.name not in dataset.key]
    changed = f"({_list(contents, 't')}) IS DISTINCT FROM ({_list(contents, 'excluded')})"
    # The second nextval is taken under the row's lock, so the versions of a key never fall whoever else writes it.
    assignments = [
        *(f'"{name}" = excluded."{name}"' for name in (*contents, "search_text", *COORDINATES)),
        f"version = CASE WHEN {changed} THEN nextval('row_version') ELSE t.version END",
        f"raw_moves = t.raw_moves + ({MOVED})::int",
        f"updated_at = CASE WHEN {changed} THEN now() ELSE t.updated_at END",
    ]
    returned_id, ids = (", t.id", "array_agg(id)") if dataset.serial_id else ("", "NULL")
    # xmax is 0 only for a row version that was inserted; an update in this transaction set updated_at to now().
    # Sorted by key in one collation, so that two writers lock rows in one order.
    # One row of arrays: as 5,000 rows the answer costs more than the merge's own writing.
    return f"""
        WITH merged AS (
        INSERT INTO "{dataset.table}" AS t ({_list(stored)}, version)
        SELECT {_list(stored)}, nextval('row_version') FROM "{stage(dataset)}"
        {f"WHERE {ORDINAL} = ANY($1::int[])" if some else ""}
        ORDER BY {", ".join(f'"{name}" COLLATE "C"' for name in dataset.key)}
        ON CONFLICT ({_list(dataset.key)}) DO UPDATE SET {", ".join(assignments)}
        WHERE {_wins(dataset, "excluded", "t")}
        RETURNING {_key_text(dataset, "t")} AS key, t.created_at, t.updated_at, t.version,
            CASE WHEN t.xmax = 0 THEN {INSERTED} WHEN t.updated_at = now() THEN {UPDATED} ELSE {UNCHANGED} END::int2
            AS outcome{returned_id})
        SELECT now(), array_agg(key), array_agg(version), array_agg(outcome),
            array_agg(created_at) FILTER (WHERE outcome <> {INSERTED}),
            array_agg(updated_at) FILTER (WHERE outcome = {UNCHANGED}), {ids}
        FROM merged"""


@cache
def holders(dataset: Dataset) -> str:
    """Of everything staged, by ordinal: does it win against its row, and which keys hold the values that it wants."""
    own_key = " AND ".join(f'own."{name}" = s."{name}"' for name in dataset.key)
    joins, columns = [], []
    for number, name in enumerate(dataset.unique):
        joins.append(f'LEFT JOIN "{dataset.table}" h{number} ON h{number}."{name}" = s."{name}"')
        columns.append(f"{_key_text(dataset, f'h{number}')} AS holder_{number}")
    return f"""
        SELECT s.{ORDINAL} AS ordinal, own."{dataset.key[0]}" IS NULL OR {_wins(dataset, "s", "own")} AS wins,
            {", ".join(columns)}
        FROM "{stage(dataset)}" s LEFT JOIN "{dataset.table}" own ON {own_key} {" ".join(joins)}"""


@cache
def rows(dataset: Dataset) -> str:
    """The rows of the keys, as change events show them; a row that the API has written has no coordinates."""
    shown = [
        *(("'id', t.id",) if dataset.serial_id else ()),
        # As in the records themselves: dates and decimals are text, whole numbers are numbers.
        *(f"'{f.name}', t.\"{f.name}\"{'' if f.type.json_type == 'integer' else '::text'}" for f in dataset.fields),
        *(f"'{name}', to_char(t.{name} AT TIME ZONE 'UTC', '{TIMESTAMP}')" for name in ("created_at", "updated_at")),
    ]
    places = _list(COORDINATES, "t") if dataset.written_by == "pipeline" else "NULL, NULL, NULL"
    return f"""
        SELECT {_key_text(dataset, "t")} AS key, t.version, {places},
            json_build_object({", ".join(shown)})::text AS data
        FROM {_given(dataset)} JOIN "{dataset.table}" t ON {same_key(dataset, "d")}"""


@cache
def alive(dataset: Dataset) -> str:
    """The key texts of those of the keys that have a row."""
    return f"""
        SELECT {_key_text(dataset, "t")} FROM {_given(dataset)} JOIN "{dataset.table}" t ON {same_key(dataset, "d")}"""


@cache
def delete(dataset: Dataset) -> str:
    """Delete the rows of the keys where the coordinates behind them are newer."""
    return f"""
        DELETE FROM "{dataset.table}" t USING {_given(dataset, *COORDINATES)}
        WHERE {same_key(dataset, "d")} AND {newer_than("d", "t")}"""


@cache
def in_place(dataset: Dataset) -> str:
    """Those of the partitions and offsets behind the keys that the keys' rows come from."""
    return f"""
        SELECT t.raw_partition, t.raw_offset
        FROM {_given(dataset, "raw_partition", "raw_offset")} JOIN "{dataset.table}" t ON {same_key(dataset, "d")}
            AND (t.raw_partition, t.raw_offset) = (d.raw_partition, d.raw_offset)"""


@cache
def withdraw(dataset: Dataset) -> str:
    """Delete the rows that come from these partitions and offsets; returns key text, partition and offset.

    Reads the whole table.
    """
    return f"""
        DELETE FROM "{dataset.table}" t USING unnest($1::int[], $2::bigint[]) AS d (raw_partition, raw_offset)
        WHERE (t.raw_partition, t.raw_offset) = (d.raw_partition, d.raw_offset)
        RETURNING {_key_text(dataset, "t")}, t.raw_partition, t.raw_offset"""


def _wins(dataset: Dataset, one: str, other: str) -> str:
    """The condition for `one` to be the row of the key that `other` has too: also if both come from one raw record.

    Such a record has been normalized again; any other repeat never comes so far.
    """
    return newer_than(other, one, ">=") if dataset.first_wins else newer_than(one, other, ">=")


def newer_than(one: str, other: str, than: str = ">") -> str:
    """The order rule: by offset within a raw partition, by the broker's time across partitions."""
    order = ("raw_timestamp", "raw_partition", "raw_offset")
    return (
        f"CASE WHEN {one}.raw_partition = {other}.raw_partition THEN {one}.raw_offset {than} {other}.raw_offset "
        f"ELSE ({_list(order, one)}) > ({_list(order, other)}) END"
    )


def _stored(dataset: Dataset) -> list[str]:
    return [*(field.name for field in dataset.fields), "search_text", *COORDINATES]


def _given(dataset: Dataset, *coordinates: str) -> str:
    """The keys in the first parameters, and the coordinates in those behind them, as the table `d`."""
    types = [*("text" for _ in dataset.key), *(COORDINATES[name] for name in coordinates)]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))
    return f"unnest({arrays}) AS d ({_list([*dataset.key, *coordinates])})"


def _key_text(dataset: Dataset, table: str) -> str:
    return " || ':' || ".join(f'{table}."{name}"::text' for name in dataset.key)


def _list(names: Iterable[str], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)
