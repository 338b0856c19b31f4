"""Compares a dataset's declaration with its table as it stands: what can be added safely, and what needs a migration.

Safe is what loses no value and refuses no record that was taken before: the table becomes wider. A table that is wider
than its declaration fits: so a deploy can be rolled back.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    NUMERIC,
    VARCHAR,
    BigInteger,
    Column,
    Connection,
    Integer,
    PrimaryKeyConstraint,
    Row,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import SAWarning
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeEngine

from schemas.dataset import Dataset
from stores.tables import DIALECT, dataset_table, sql_name

UNBOUNDED = 10**9

_INDEXES = text("""
    SELECT indexrelid::regclass::text AS name, indisprimary AS is_key, indisunique AS is_unique,
        NOT indimmediate AS is_deferrable, ARRAY(
            SELECT coalesce(a.attname::text, pg_get_indexdef(indexrelid, n::int, true))
            FROM unnest(indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                LEFT JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = k.attnum AND k.attnum > 0
            WHERE n <= indnkeyatts ORDER BY n) AS columns
    FROM pg_index WHERE indrelid = to_regclass(quote_ident(:table)) AND indpred IS NULL AND indisvalid
    ORDER BY name""")
"""Constraints have an index each, deferrable if its constraint is. One that was not built to its end is not valid."""


_NAME_TAKEN = text("SELECT to_regclass(quote_ident(:name)) IS NOT NULL")


@dataclass
class TableFit:
    """Steps that make a dataset fit into its table. Lines name dataset and field."""

    safe: list[tuple[str, str]] = field(default_factory=list)
    """(SQL, line) of what set-up does by itself."""
    missing: list[str] = field(default_factory=list)
    """Columns that are added so: until then the dataset cannot be read."""
    misfits: list[str] = field(default_factory=list)
    """Lines on what needs a migration: until then the dataset can't be stored in the table."""
    remarks: list[str] = field(default_factory=list)
    """Lines on what is wider in the table than in the declaration, and stays so."""


def fit_of(connection: Connection, dataset: Dataset) -> TableFit:
    """The steps that make the dataset fit into its table as it stands. Changes nothing."""
    table, fit = dataset_table(dataset), TableFit()
    there = _columns_of(connection, table)
    indexes = connection.execute(_INDEXES, {"table": table.name}).all()
    for column in table.columns:
        if column.name in there:
            _compare(fit, dataset, column, there[column.name])
        else:
            _add(fit, dataset, column)
    for name in there.keys() - {column.name for column in table.columns}:
        _left(fit, dataset, name, there[name])
    _compare_keys(fit, dataset, table, indexes)
    if not fit.misfits:
        _add_indexes(connection, fit, dataset, table, indexes)
    return fit


def _columns_of(connection: Connection, table: Table) -> dict[str, ReflectedColumn]:
    """The table's columns as they are. SQLAlchemy warns of types of extensions and of somebody's own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Did not recognize type", SAWarning)
        columns = inspect(connection).get_columns(table.name)
    return {column["name"]: column for column in columns}


def holds(found: TypeEngine[Any], declared: TypeEngine[Any]) -> bool:
    """True if a column of the type that was found has room for every value of the declared type. Pure."""
    (family, there), (other, wanted) = _room(found), _room(declared)
    return family == other and all(size >= needed for size, needed in zip(there, wanted, strict=True))


def _room(kind: TypeEngine[Any]) -> tuple[str, tuple[int, ...]]:
    """A type's family, and the room in it: characters, bytes, or digits before and after the point."""
    match kind:
        case Text() | VARCHAR():
            return "text", (kind.length or UNBOUNDED,)
        case NUMERIC(precision=None):
            return "decimal", (UNBOUNDED, UNBOUNDED)
        case NUMERIC(precision=int(digits)):
            return "decimal", (digits - (kind.scale or 0), kind.scale or 0)
        case Integer():
            return "integer", (2 if isinstance(kind, SmallInteger) else 8 if isinstance(kind, BigInteger) else 4,)
        case _:
            return sql_name(kind), ()


def _add(fit: TableFit, dataset: Dataset, column: Column[Any]) -> None:
    declared = sql_name(column.type)
    if column.nullable and column.name in dataset.model.model_fields:
        fit.missing.append(column.name)
        fit.safe.append(
            (
                f'ALTER TABLE "{dataset.table}" ADD COLUMN IF NOT EXISTS "{column.name}" {declared}',
                f"{dataset.name}.{column.name}: added as {declared}",
            )
        )
    else:
        fit.misfits.append(
            f"{dataset.name}.{column.name}: declared {declared} and required, and the table has no such column; "
            "declare it `| None`, or write a migration that adds it with a value for the rows that are there"
        )


def _compare(fit: TableFit, dataset: Dataset, column: Column[Any], there: ReflectedColumn) -> None:
    declared, has, name = sql_name(column.type), sql_name(there["type"]), f"{dataset.name}.{column.name}"
    wide_enough = holds(there["type"], column.type)
    identity = there.get("identity")
    if there.get("computed") or (identity and identity["always"] and column.identity is None):
        fit.misfits.append(
            f"{name}: the table makes its values itself, so that none can be stored; write a migration that makes it a "
            "column as others are"
        )
    alter = f'ALTER TABLE "{dataset.table}" ALTER COLUMN "{column.name}"'
    if wide_enough and not holds(column.type, there["type"]):
        fit.remarks.append(
            f"{name}: declared {declared}, the table has {has} and keeps it, since a value could be lost; "
            "narrow it with a migration"
        )
    elif not wide_enough and holds(column.type, there["type"]):
        fit.safe.append((f"{alter} TYPE {declared}", f"{name}: {has} is now {declared}"))
    elif not wide_enough:
        fit.misfits.append(
            f"{name}: declared {declared}, and the table has {has}; declare it as it was, under a new name, or "
            "write a migration that converts the column"
        )
    if column.nullable and not there["nullable"]:
        fit.safe.append((f"{alter} DROP NOT NULL", f"{name}: may be absent now"))
    elif there["nullable"] and not column.nullable:
        fit.remarks.append(
            f"{name}: declared as required, and rows of the table may lack it and stay so; fill them and set NOT NULL "
            "with a migration"
        )


def _left(fit: TableFit, dataset: Dataset, name: str, there: ReflectedColumn) -> None:
    kind = sql_name(there["type"])
    if there["nullable"] or there.get("default") or there.get("identity") or there.get("computed"):
        fit.remarks.append(
            f"{dataset.name}.{name}: not declared, and the table keeps its column of {kind} with what is in it; "
            "drop it with a migration"
        )
    else:
        fit.misfits.append(
            f"{dataset.name}.{name}: not declared, and the table has a column of {kind} that must have a value; "
            "declare it again, or write a migration that drops it or its NOT NULL"
        )


def _compare_keys(fit: TableFit, dataset: Dataset, table: Table, indexes: Sequence[Row[Any]]) -> None:
    key = frozenset(table.primary_key.columns.keys())
    found_key = next((frozenset(index.columns) for index in indexes if index.is_key), frozenset[str]())
    if key != found_key:
        fit.misfits.append(
            f"{dataset.name}: the declared key is {_listed(key)}, and the table's is {_listed(found_key)}; a dataset's "
            "key stays: declare a new dataset with a table of its own, or write a migration"
        )
    found: dict[frozenset[str], list[Row[Any]]] = {}
    for index in indexes:
        if index.is_unique:
            found.setdefault(frozenset(index.columns), []).append(index)
    declared = {
        frozenset(constraint.columns.keys()): constraint
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint | PrimaryKeyConstraint)
    }
    for names in sorted(declared, key=sorted):
        deferrable, there = bool(declared[names].deferrable), found.get(names, [])
        wanted = f"the constraint {declared[names].name}{', deferrable' if deferrable else ''}"
        others = [index.name for index in there if index.is_deferrable != deferrable]
        if not there and names != key:
            fit.misfits.append(
                f"{dataset.name}: {_listed(names)} is declared unique, and in the table it is not; write a migration "
                f"that settles what is there twice and adds {wanted}"
            )
        elif others and (deferrable or len(others) == len(there)):
            why = (
                "not deferrable, so that records cannot swap values" if deferrable else "deferrable, as no upsert takes"
            )
            fit.misfits.append(
                f"{dataset.name}: {_listed(names)} is kept unique by {', '.join(others)}, which is {why}; write a "
                f"migration that replaces it by {wanted}"
            )
    for names in sorted(found.keys() - declared.keys() - {found_key}, key=sorted):
        fit.misfits.append(
            f"{dataset.name}: {_listed(names)} is unique in the table, and not declared so; declare it, or write a "
            "migration that drops the constraint"
        )


def _add_indexes(
    connection: Connection, fit: TableFit, dataset: Dataset, table: Table, indexes: Sequence[Row[Any]]
) -> None:
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        names = [column.name for column in index.columns]
        partial = index.dialect_options["postgresql"]["where"] is not None
        if not partial and any(found.columns[: len(names)] == names for found in indexes):
            continue
        line = f"{dataset.name}: an index on {', '.join(names)}"
        if not connection.scalar(_NAME_TAKEN, {"name": index.name}):
            fit.safe.append((str(CreateIndex(index).compile(dialect=DIALECT)), line))
        elif not partial:
            fit.remarks.append(
                f"{line} is declared, and {index.name} is another one, or was not built to its end; drop it, then run "
                "`headrace setup`"
            )


def _listed(names: frozenset[str]) -> str:
    return " + ".join(sorted(names)) or "none"
