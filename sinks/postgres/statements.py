"""The SQL of a dataset's merge, derived from its declaration: only names of ours are put into it. Pure."""

# ruff: noqa: S608

from dataclasses import dataclass
from functools import cache

from schemas.dataset import Dataset
from stores.tables import same_key

TIMESTAMP = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
"""As msgspec writes a time, so that an event that is published again says the same."""

INSERTED, UPDATED, UNCHANGED = range(3)
"""Codes of outcomes in the merge's answer."""

MOVED = "t.raw_partition >= 0 AND excluded.raw_partition >= 0 AND t.raw_partition <> excluded.raw_partition"
"""The record is of another partition than the row's: a foreign producer's partitioner, or partitions were added."""

COORDINATES = ("raw_partition", "raw_offset", "raw_timestamp")


@dataclass(frozen=True)
class Statements:
    """Everything the merge of one dataset says to Postgres."""

    stage: str
    """Name of the staging table; one per connection, emptied at the end of each transaction."""
    create_stage: str
    staged_columns: tuple[str, ...]
    merge: str
    """Insert or update everything staged. Returns one row: now, and arrays of key text, version, outcome's code,
    created_at of what was not inserted, updated_at of what is unchanged, and id if any; NULL where nothing changed."""
    merge_some: str
    """The same for the ordinals in $1."""
    holders: str
    """For everything staged, by ordinal: whether it wins against its row, and the keys that hold the values that it
    wants."""
    delete: str
    """Delete the rows of the keys given as one array per key column, where the coordinates behind them are newer."""
    alive: str
    """The key texts of those keys that have a row."""
    in_place: str
    """Those of these partitions and offsets that the rows of the keys, given as one array per key column, come from."""
    withdraw: str
    """Delete the rows that come from these partitions and offsets; returns key text, partition and offset. Reads the
    whole table."""
    rows: str
    """The rows of the keys given as one array per key column, as change events show them; a row that the API has
    written has no coordinates."""


@cache
def statements(dataset: Dataset) -> Statements:
    """The statements of a dataset."""
    names = [field.name for field in dataset.fields]
    stored = [*names, "search_text", *COORDINATES]
    stage = f"stage_{dataset.table}"
    return Statements(
        stage=stage,
        create_stage=(
            f'CREATE TEMP TABLE IF NOT EXISTS "{stage}" ON COMMIT DELETE ROWS AS '
            f'SELECT 0 AS ordinal, {_list(stored)} FROM "{dataset.table}" WITH NO DATA'
        ),
        staged_columns=("ordinal", *stored),
        merge=_merge(dataset, stage, names, stored, ""),
        merge_some=_merge(dataset, stage, names, stored, "WHERE ordinal = ANY($1::int[])"),
        holders=_holders(dataset, stage),
        delete=_delete(dataset),
        alive=f"""SELECT {_key_text(dataset, "t")} FROM unnest({_key_arrays(dataset)}) AS d ({_list(dataset.key)})
            JOIN "{dataset.table}" t ON {same_key(dataset, "d")}""",
        in_place=f"""SELECT t.raw_partition, t.raw_offset
            FROM unnest({_key_arrays(dataset)}, ${len(dataset.key) + 1}::int[], ${len(dataset.key) + 2}::bigint[])
                AS d ({_list([*dataset.key, "raw_partition", "raw_offset"])})
            JOIN "{dataset.table}" t ON {same_key(dataset, "d")}
                AND (t.raw_partition, t.raw_offset) = (d.raw_partition, d.raw_offset)""",
        withdraw=f"""DELETE FROM "{dataset.table}" t
            USING unnest($1::int[], $2::bigint[]) AS d (raw_partition, raw_offset)
            WHERE (t.raw_partition, t.raw_offset) = (d.raw_partition, d.raw_offset)
            RETURNING {_key_text(dataset, "t")}, t.raw_partition, t.raw_offset""",
        rows=_rows(dataset),
    )


def _merge(dataset: Dataset, stage: str, names: list[str], stored: list[str], where: str) -> str:
    contents = [name for name in names if name not in dataset.key]
    changed = f"({_list(contents, 't')}) IS DISTINCT FROM ({_list(contents, 'excluded')})"
    # The second nextval is taken under the row's lock, so the versions of a key never fall whoever else writes it.
    assignments = [
        *(f'"{name}" = excluded."{name}"' for name in (*contents, "search_text", *COORDINATES)),
        f"version = CASE WHEN {changed} THEN nextval('row_version') ELSE t.version END",
        f"raw_moves = t.raw_moves + ({MOVED})::int",
        f"updated_at = CASE WHEN {changed} THEN now() ELSE t.updated_at END",
    ]
    identity = ", t.id" if dataset.serial_id else ""
    # xmax is 0 only for a row version that was inserted; an update in this transaction set updated_at to now().
    # Sorted by key in one collation, so that two writers lock rows in one order.
    # One row of arrays: as 5,000 rows the answer costs more than the merge's own writing.
    return f"""
        WITH merged AS (
        INSERT INTO "{dataset.table}" AS t ({_list(stored)}, version)
        SELECT {_list(stored)}, nextval('row_version') FROM "{stage}" {where}
        ORDER BY {", ".join(f'"{name}" COLLATE "C"' for name in dataset.key)}
        ON CONFLICT ({_list(dataset.key)}) DO UPDATE SET {", ".join(assignments)}
        WHERE {_wins(dataset, "excluded", "t")}
        RETURNING {_key_text(dataset, "t")} AS key, t.created_at, t.updated_at, t.version,
            CASE WHEN t.xmax = 0 THEN {INSERTED} WHEN t.updated_at = now() THEN {UPDATED} ELSE {UNCHANGED} END::int2
            AS outcome{identity})
        SELECT now(), array_agg(key), array_agg(version), array_agg(outcome),
            array_agg(created_at) FILTER (WHERE outcome <> {INSERTED}),
            array_agg(updated_at) FILTER (WHERE outcome = {UNCHANGED}){", array_agg(id)" if identity else ", NULL"}
        FROM merged"""


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


def _holders(dataset: Dataset, stage: str) -> str:
    same_key = " AND ".join(f'own."{name}" = s."{name}"' for name in dataset.key)
    joins, columns = [], []
    for number, name in enumerate(dataset.unique):
        joins.append(f'LEFT JOIN "{dataset.table}" h{number} ON h{number}."{name}" = s."{name}"')
        columns.append(f"{_key_text(dataset, f'h{number}')} AS holder_{number}")
    return f"""
        SELECT s.ordinal, own."{dataset.key[0]}" IS NULL OR {_wins(dataset, "s", "own")} AS wins, {", ".join(columns)}
        FROM "{stage}" s LEFT JOIN "{dataset.table}" own ON {same_key} {" ".join(joins)}"""


def _rows(dataset: Dataset) -> str:
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
        FROM unnest({_key_arrays(dataset)}) AS wanted ({_list(dataset.key)})
        JOIN "{dataset.table}" t ON {same_key(dataset, "wanted")}"""


def _delete(dataset: Dataset) -> str:
    first = len(dataset.key) + 1
    coordinates = f"${first}::int[], ${first + 1}::bigint[], ${first + 2}::bigint[]"
    return f"""
        DELETE FROM "{dataset.table}" t
        USING unnest({_key_arrays(dataset)}, {coordinates}) AS d ({_list([*dataset.key, *COORDINATES])})
        WHERE {same_key(dataset, "d")} AND {newer_than("d", "t")}"""


def _key_arrays(dataset: Dataset) -> str:
    return ", ".join(f"${number}::text[]" for number in range(1, len(dataset.key) + 1))


def _key_text(dataset: Dataset, table: str) -> str:
    return " || ':' || ".join(f'{table}."{name}"::text' for name in dataset.key)


def _list(names: list[str] | tuple[str, ...], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)
