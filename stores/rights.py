"""The rights of each role of ours at Kafka, Postgres and Redis: the one declaration of them.

Statements for the servers, docs/rights.md and the tests follow from it (`stores/grants.py`). What set-up needs is not
in it: it owns the tables and the topics (docs/security.md). A role that is not named at a server has no user there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from schemas.registry import all_datasets
from schemas.sinks import Kind
from stores.cache import FILL, INVALIDATE, LEASE
from stores.shared_counts import ADD
from stores.tables import all_tables

STORED = "(datasets of the pipeline)"
"""In the place of a table: those of all datasets whose rows the Postgres sink writes."""

WRITTEN = "(datasets that the API writes)"

EVERY = "(every table)"

VERSIONS = "alembic_version"
"""Tells whether the schema is current; not one of `stores.tables`."""

Tables = Mapping[str, str]
"""By table the rights on it, in the words of GRANT: `SELECT, UPDATE (topic)`."""


@dataclass(frozen=True)
class KafkaRights:
    """Kinds of the datasets' topics that a role reads and writes, beside its own group."""

    reads: tuple[Kind, ...] = ()
    writes: tuple[Kind, ...] = ()
    all_groups: bool = False
    """It looks at every group of the broker."""


@dataclass(frozen=True)
class RedisRights:
    """Commands that a role sends, those of its scripts among them, and the names with which its keys begin."""

    keys: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rights:
    """All that a role may do. Tables named twice have both rights."""

    kafka: KafkaRights
    tables: tuple[Tables, ...] = ()
    versions: bool = False
    """It draws versions for rows (the sequence `row_version`)."""
    temporary: bool = False
    """It makes temporary tables."""
    redis: RedisRights = RedisRights()


EVERY_KIND: tuple[Kind, ...] = get_args(Kind)

_SCHEMA: Tables = {VERSIONS: "SELECT"}

# Whoever meets a topic that was deleted and created again first moves what is known of it aside (stores/epochs.py).
_EPOCHS: Tables = {
    "topic_epochs": "SELECT, INSERT, UPDATE",
    "coverage": "SELECT, UPDATE",
    **dict.fromkeys(
        ("run_outcomes", "raw_api_data", "raw_csv_data"),
        "SELECT (topic, partition), UPDATE (topic, partition)",
    ),
    "ingest_failures": "SELECT (topic, partition, replayed_topic, replayed_partition), "
    "UPDATE (topic, partition, replayed_topic, replayed_partition)",
    "tombstones": "SELECT (dataset, raw_partition), UPDATE (raw_partition)",
    STORED: "SELECT (raw_partition), UPDATE (raw_partition)",
}

_RUNS: Tables = {
    "etl_runs": "SELECT, INSERT, UPDATE",
    "etl_checkpoint": "SELECT, INSERT, UPDATE, DELETE",
    "etl_checkpoint_pages": "SELECT, INSERT, DELETE",
    "run_profiles": "SELECT, INSERT",
    **dict.fromkeys(("run_outcomes", "ingest_failures", "raw_api_data", "raw_csv_data"), "SELECT"),
}

# Rows are counted by triggers, in the name of who writes them.
_COUNTED: Tables = {"row_counts": "SELECT, INSERT, UPDATE"}


def _scripts(*scripts: str) -> tuple[str, ...]:
    """The commands that running these takes: a script may do what its user may."""
    called = {command: None for script in scripts for command in re.findall(r"redis\.p?call\('([A-Z]+)'", script)}
    return ("EVALSHA", "SCRIPT|LOAD", *called)


OPERATOR = "operator"
"""No process: people at the command line. They change rows, but no tables, users or offsets."""

RIGHTS: dict[str, Rights] = {
    "normalizer": Rights(KafkaRights(("raw",), ("clean", "failures"))),
    "sink-postgres": Rights(
        KafkaRights(("raw", "clean", "failures"), ("changed", "failures")),
        (
            _SCHEMA,
            _EPOCHS,
            _COUNTED,
            {
                STORED: "SELECT, INSERT, UPDATE, DELETE",
                "coverage": "INSERT",
                "ingest_failures": "SELECT, INSERT, UPDATE",
                "failure_actions": "INSERT",
                "tombstones": "SELECT, INSERT, UPDATE, DELETE",
                "run_outcomes": "SELECT, INSERT, UPDATE, DELETE",
                "outbox": "SELECT, INSERT, UPDATE",
                "etl_runs": "SELECT",
                **dict.fromkeys(("forgotten", "forgotten_addresses"), "SELECT"),
            },
        ),
        versions=True,
        temporary=True,
    ),
    "sink-landing": Rights(
        KafkaRights(("raw",)),
        (
            _SCHEMA,
            _EPOCHS,
            {
                **dict.fromkeys(("raw_api_data", "raw_csv_data"), "SELECT, INSERT"),
                **dict.fromkeys(("source_schemas", "schema_drift"), "SELECT, INSERT, UPDATE"),
                **dict.fromkeys(("forgotten", "forgotten_addresses"), "SELECT"),
            },
        ),
        temporary=True,
    ),
    "sink-elasticsearch": Rights(KafkaRights(("changed",))),
    "sink-redis": Rights(KafkaRights(("changed",)), redis=RedisRights(("cache",), _scripts(INVALIDATE))),
    "relay": Rights(KafkaRights((), ("changed",)), (_SCHEMA, {"outbox": "SELECT, UPDATE (version), DELETE"})),
    "scheduler": Rights(
        KafkaRights((), ("raw",)),
        (
            _EPOCHS,
            _RUNS,
            # What is too old is taken out (services/retention.py); it is locked before, which takes UPDATE on a column.
            {
                **dict.fromkeys(("raw_api_data", "raw_csv_data", "etl_runs"), "DELETE"),
                **dict.fromkeys(
                    ("ingest_failures", "failure_actions", "failure_replays", "schema_drift"),
                    "SELECT, UPDATE (id), DELETE",
                ),
                "run_profiles": "UPDATE (run_id), DELETE",
            },
        ),
    ),
    "monitor": Rights(
        KafkaRights(EVERY_KIND, all_groups=True),
        (
            {
                "lag_samples": "SELECT, INSERT, DELETE",
                "lag_minutes": "SELECT, INSERT, UPDATE, DELETE",
                "alarms": "SELECT, INSERT, UPDATE, DELETE",
                "coverage": "SELECT, INSERT, UPDATE",  # the audit covers offsets that it has seen to carry no record
                **dict.fromkeys(("topic_epochs", "etl_runs", "schema_drift"), "SELECT"),
            },
        ),
    ),
    "api": Rights(
        KafkaRights(EVERY_KIND, EVERY_KIND, all_groups=True),
        (
            _EPOCHS,
            _RUNS,
            _COUNTED,
            {
                STORED: "SELECT",
                WRITTEN: "SELECT, INSERT, UPDATE, DELETE",
                "tombstones": "SELECT, INSERT, UPDATE, DELETE",
                "outbox": "SELECT, INSERT, UPDATE",
                "coverage": "INSERT",
                "run_outcomes": "UPDATE",
                "ingest_failures": "UPDATE",
                "failure_actions": "SELECT, INSERT",
                "failure_replays": "SELECT, INSERT, UPDATE",
                "webhook_deliveries": "SELECT, INSERT, UPDATE, DELETE",
                "api_keys": "SELECT, UPDATE (last_used_at)",
                **dict.fromkeys(("schema_drift", "alarms", "lag_samples", "lag_minutes"), "SELECT"),
            },
        ),
        versions=True,
        redis=RedisRights(("cache", "requests"), _scripts(LEASE, FILL, INVALIDATE, ADD)),
    ),
    OPERATOR: Rights(
        KafkaRights(EVERY_KIND, EVERY_KIND, all_groups=True),
        ({EVERY: "SELECT, INSERT, UPDATE, DELETE"},),
        versions=True,
        redis=RedisRights(("cache",), ("HGET", "HMGET", "PTTL", "SCAN", "DEL")),
    ),
}
"""By the name of the role, as the supervisor and the chart know it."""


_ORDER = ("SELECT", "INSERT", "UPDATE", "DELETE")

_RIGHT = re.compile(r"([A-Z]+)(?: \(([^)]*)\))?")


def declared(role: str) -> dict[str, str]:
    """By table, or the name of several, what a role may do, in the words of GRANT. Pure."""
    found: dict[str, list[str]] = {}
    for tables in RIGHTS[role].tables:
        for name, rights in tables.items():
            found.setdefault(name, []).append(rights)
    return {name: _together(rights) for name, rights in sorted(found.items())}


def tables_of(role: str) -> dict[str, str]:
    """By table what a role may do; the datasets' tables by their own names. Pure."""
    return {table: rights for name, rights in declared(role).items() for table in _named(name)}


def single_rights(role: str) -> list[tuple[str, str, bool]]:
    """(table, right, on the whole of it) for each right that a role needs: one on some columns is not. Pure."""
    return [
        (table, right, not columns)
        for table, rights in tables_of(role).items()
        for right, columns in _RIGHT.findall(rights)
    ]


def _named(name: str) -> list[str]:
    if name == EVERY:
        return list(all_tables().tables)
    written_by = {STORED: "pipeline", WRITTEN: "api"}.get(name)
    if written_by is None:
        return [name]
    return [dataset.table for dataset in all_datasets() if dataset.written_by == written_by]


def _together(rights: Iterable[str]) -> str:
    """One list of rights: a right on the whole table takes the place of that on columns."""
    columns: dict[str, set[str]] = {}
    for right, some in _RIGHT.findall(", ".join(rights)):
        columns.setdefault(right, set()).update(some.split(", "))  # of the whole table: {""}
    return ", ".join(
        right if "" in columns[right] else f"{right} ({', '.join(sorted(columns[right]))})"
        for right in _ORDER
        if right in columns
    )
