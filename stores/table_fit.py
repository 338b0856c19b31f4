"""Compares a dataset's declaration with its table as it stands: what can be added safely, and what needs a migration.

Safe is what loses no value and refuses no record that was taken before: the table becomes wider. A table that is wider
than its declaration fits: so a deploy can be rolled back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    NUMERIC,
    VARCHAR,
    BigInteger,
    Column,
    Connection,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    inspect,
)
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeEngine

from schemas.dataset import Dataset
from stores.tables import DIALECT, dataset_table, sql_name

UNBOUNDED = 10**9


@dataclass(frozen=True)
class FoundColumn:
    """A column as Postgres has it. `filled`: it gets a value by itself."""

    type: TypeEngine[Any]
    nullable: bool
    filled: bool


@dataclass(frozen=True)
class FoundTable:
    """A table as Postgres has it: its primary key, what else is unique, and what its indexes begin with."""

    columns: Mapping[str, FoundColumn]
    key: frozenset[str]
    unique: frozenset[frozenset[str]]
    indexed: frozenset[tuple[str, ...]]


@dataclass
class TableFit:
    """Steps that make a dataset fit into its table. Lines name dataset and field."""

    safe: list[tuple[str, str]] = field(default_factory=list)
    """(SQL, line) of what set-up does by itself."""
    missing: list[str] = field(default_factory=list)
    """Columns that are added so: until then the dataset cannot be read."""
    misfits: list[str] = field(default_factory=list)
    """Why the dataset can't be stored in it: what needs a migration."""
    remarks: list[str] = field(default_factory=list)
    """Where the table is wider than the declaration, and stays so."""


def look_at(connection: Connection, table: str) -> FoundTable:
    """The table as it stands. Asks Postgres."""
    inspector = inspect(connection)
    indexes = inspector.get_indexes(table)
    plain = [index for index in indexes if not index.get("dialect_options", {}).get("postgresql_where")]
    unique = [constraint["column_names"] for constraint in inspector.get_unique_constraints(table)]
    unique += [_names(index) for index in plain if index["unique"]]
    return FoundTable(
        {
            column["name"]: FoundColumn(
                column["type"],
                column["nullable"],
                bool(column.get("default") or column.get("identity") or column.get("computed")),
            )
            for column in inspector.get_columns(table)
        },
        frozenset(inspector.get_pk_constraint(table)["constrained_columns"]),
        frozenset(frozenset(names) for names in unique),
        frozenset(tuple(_names(index)) for index in plain),
    )


def fit_of(dataset: Dataset, found: FoundTable) -> TableFit:
    """The steps that make the dataset fit into the table. Pure."""
    table = dataset_table(dataset)
    fit = TableFit()
    for column in table.columns:
        if (there := found.columns.get(column.name)) is None:
            _add(fit, dataset, column)
        else:
            _compare(fit, dataset, column, there)
    for name in found.columns.keys() - {column.name for column in table.columns}:
        _left(fit, dataset, name, found.columns[name])
    _compare_keys(fit, dataset, table, found)
    if not fit.misfits:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            names = tuple(column.name for column in index.columns)
            if index.dialect_options["postgresql"]["where"] is None and not _is_indexed(names, found):
                sql = str(CreateIndex(index, if_not_exists=True).compile(dialect=DIALECT))
                fit.safe.append((sql, f"{dataset.name}: an index on {', '.join(names)}"))
    return fit


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


def _compare(fit: TableFit, dataset: Dataset, column: Column[Any], there: FoundColumn) -> None:
    declared, has, name = sql_name(column.type), sql_name(there.type), f"{dataset.name}.{column.name}"
    wide_enough = holds(there.type, column.type)
    alter = f'ALTER TABLE "{dataset.table}" ALTER COLUMN "{column.name}"'
    if wide_enough and not holds(column.type, there.type):
        fit.remarks.append(
            f"{name}: declared {declared}, the table has {has} and keeps it, since a value could be lost; "
            "narrow it with a migration"
        )
    elif not wide_enough and holds(column.type, there.type):
        fit.safe.append((f"{alter} TYPE {declared}", f"{name}: {has} is now {declared}"))
    elif not wide_enough:
        fit.misfits.append(
            f"{name}: declared {declared}, and the table has {has}; declare it as it was, under a new name, or "
            "write a migration that converts the column"
        )
    if column.nullable and not there.nullable:
        fit.safe.append((f"{alter} DROP NOT NULL", f"{name}: may be absent now"))
    elif there.nullable and not column.nullable:
        fit.remarks.append(
            f"{name}: declared as required, and rows of the table may lack it and stay so; fill them and set NOT NULL "
            "with a migration"
        )


def _left(fit: TableFit, dataset: Dataset, name: str, there: FoundColumn) -> None:
    kind = sql_name(there.type)
    if there.nullable or there.filled:
        fit.remarks.append(
            f"{dataset.name}.{name}: not declared, and the table keeps its column of {kind} with what is in it; "
            "drop it with a migration"
        )
    else:
        fit.misfits.append(
            f"{dataset.name}.{name}: not declared, and the table has a column of {kind} that must have a value; "
            "declare it again, or write a migration that drops it or its NOT NULL"
        )


def _compare_keys(fit: TableFit, dataset: Dataset, table: Table, found: FoundTable) -> None:
    key = frozenset(column.name for column in table.primary_key.columns)
    unique = {
        frozenset(column.name for column in constraint.columns)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
    if key != found.key:
        fit.misfits.append(
            f"{dataset.name}: the declared key is {_listed(key)}, and the table's is {_listed(found.key)}; a dataset's "
            "key stays: declare a new dataset with a table of its own, or write a migration"
        )
    how = ", deferrable" if dataset.written_by == "pipeline" else ""
    for names in sorted(unique - found.unique, key=sorted):
        constraint = f"uq_{dataset.table}_{'_'.join(sorted(names))}"
        fit.misfits.append(
            f"{dataset.name}: {_listed(names)} is declared unique, and in the table it is not; write a migration that "
            f"settles what is there twice and adds the constraint {constraint}{how}"
        )
    for names in sorted(found.unique - unique, key=sorted):
        if names != found.key:
            fit.misfits.append(
                f"{dataset.name}: {_listed(names)} is unique in the table, and not declared so; declare it, or write a "
                "migration that drops the constraint"
            )


def _is_indexed(names: tuple[str, ...], found: FoundTable) -> bool:
    return any(there[: len(names)] == names for there in found.indexed)


def _listed(names: frozenset[str]) -> str:
    return " + ".join(sorted(names)) or "none"


def _names(index: Mapping[str, Any]) -> list[str]:
    """The columns that an index begins with, up to an expression."""
    return list(_plain(index["column_names"]))


def _plain(names: list[str | None]) -> Iterator[str]:
    return (name for name in takewhile(lambda name: name is not None, names) if name is not None)
