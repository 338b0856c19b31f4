"""Finds what Postgres keeps of a person in texts that no key leads to: raw records, failures, drifts, remarks.

Postgres reads the rows and picks those in which a text of the person occurs at all; which of them really are theirs is
judged here, by rules that are pure.
"""

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from schemas.dataset import Dataset
from schemas.mentions import SHORTEST, Name, address, mentioned
from schemas.registry import all_datasets
from stores.postgres_connection import Connection
from stores.tables import all_tables, forgotten, forgotten_addresses

FETCH = 1_000

NOT_SEARCHED = (forgotten.name, forgotten_addresses.name, "coverage", "lag_samples", "lag_minutes")
"""Tables of numbers and names of ours."""


@dataclass(frozen=True)
class Person:
    """Whom to forget: a key of a dataset, and the texts that find the person where no key stands."""

    dataset: Dataset
    key: str
    addresses: tuple[str, ...] = ()
    """E-mail addresses and telephone numbers, in normal form."""

    @property
    def name(self) -> Name:
        return Name(self.dataset.name, self.key)

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The person's own, and those whose records are about records of it; by name."""
        found = (one for one in all_datasets() if self.dataset.name in one.about.values())
        return {one.name: one for one in (self.dataset, *found)}

    @cached_property
    def patterns(self) -> list[str]:
        """For LIKE, on `searchable` text: one of these is in whatever tells of the person."""
        texts = (self.dataset.key_fields(self.key)[self.dataset.key[-1]], *self.addresses)
        forms = {form for text in texts for form in (text, json.dumps(text)[1:-1])}
        forms |= {_as_bytea(form.encode()) for form in forms}
        return [f"%{_escaped(form.lower())}%" for form in sorted(forms)]

    @cached_property
    def names(self) -> frozenset[Name]:
        """The key, and the addresses, by which sinks will know a record that comes again."""
        return frozenset({self.name, *map(address, self.addresses)})

    def is_told_by(self, dataset: Dataset, key: str | None, payload: bytes | None) -> bool:
        """True for a raw record that names the person, or has their address and nobody else's key. Pure."""
        return not self.names.isdisjoint(mentioned(dataset, key, payload))

    @cached_property
    def words(self) -> str | None:
        """For ~, on `searchable` text: the key or an address as a word. None where the key is too short to tell."""
        words = [re.escape(text.lower()) for text in (self.key, *self.addresses) if len(text) >= SHORTEST]
        return rf"(^|[^[:alnum:]_.+-])({'|'.join(words)})($|[^[:alnum:]_])" if words else None


@dataclass
class Found:
    """Rows that tell of a person."""

    landed: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    """By landing table, the coordinates of raw records."""
    failures: list[int] = field(default_factory=list)
    """Ids of the person's own."""
    remarks: list[int] = field(default_factory=list)
    """Ids of others' failures whose message names the person."""


def searchable(column: str, kind: str = "text") -> str:
    """SQL: a column as the text that the patterns are for. Pure."""
    as_text = {"bytea": f"encode({column}, 'escape')", "jsonb": f"{column}::text"}.get(kind, column)
    return f"coalesce(lower({as_text}), '')"


async def landed_rows(connection: Connection, table: str, person: Person, topics: Sequence[str]) -> list[Any]:
    """Coordinates of the raw records in a landing table that tell of the person. Reads all of these topics' rows.

    `topics`: physical raw topics, in the order of `person.datasets`. In a transaction of the caller's.
    """
    datasets = dict(zip(topics, person.datasets.values(), strict=False))
    query = f"""
        SELECT topic, partition, "offset", key, payload FROM "{table}" WHERE split_part(topic, '@', 1) = ANY($1)
            AND {searchable("key")} || {searchable("payload", "bytea")} LIKE ANY($2)"""  # noqa: S608 (our own names)
    found = []
    async for row in _rows(connection, query, list(datasets), person.patterns):
        topic, partition, offset, key, payload = row
        if person.is_told_by(datasets[topic.partition("@")[0]], key, payload):
            found.append((topic, partition, offset))
    return found


async def failure_rows(connection: Connection, person: Person) -> tuple[list[int], list[int]]:
    """Ids of failures that tell of the person: their own, and others' that do so in a message or as what blocks them.

    In a transaction of the caller's.
    """
    kinds = {"payload": "bytea", "edited_payload": "bytea", "claim": "bytea", "problems": "jsonb"}
    names = ("key", "message", "blocked_by", "replayed_key", *kinds)
    text = " || ' ' || ".join(searchable(name, kinds.get(name, "text")) for name in names)
    quoted = f"{searchable('message')} || ' ' || {searchable('problems', 'jsonb')}"
    query = f"""
        SELECT id, dataset, key, payload, edited_payload, claim,
            coalesce({quoted} ~ $2, false) OR coalesce(blocked_by = $3, false)
        FROM ingest_failures WHERE {text} LIKE ANY($1)"""  # noqa: S608 (our own names)
    own, remarks = [], []
    async for row in _rows(connection, query, person.patterns, person.words, person.key):
        failure_id, name, key, *payloads, is_quoted = row
        dataset = person.datasets.get(name)
        if dataset is None and key is not None:
            continue
        if any(person.is_told_by(dataset or person.dataset, key, payload) for payload in payloads):
            own.append(failure_id)
        elif is_quoted:
            remarks.append(failure_id)
    return own, remarks


async def what_is_left(connection: Connection, person: Person) -> dict[str, int]:
    """Rows in which the person's key or address still stands as a word, by `table.column`; all tables are read."""
    left = {}
    for table in all_tables().sorted_tables:
        for column, kind in _text_columns(table):
            text = searchable(f'"{column}"', kind)
            count = await connection.fetchval(
                f'SELECT count(*) FROM "{table.name}" WHERE {text} ~ $1',  # noqa: S608 (our own names)
                person.words,
            )
            if count:
                left[f"{table.name}.{column}"] = count
    return left


def _text_columns(table: Table) -> list[tuple[str, str]]:
    kinds = ((Text, "text"), (LargeBinary, "bytea"), (JSONB, "jsonb"))
    return [
        (column.name, name)
        for column in table.columns
        for kind, name in kinds
        if table.name not in NOT_SEARCHED and isinstance(column.type, kind)
    ]


async def _rows(connection: Connection, query: str, *arguments: Any) -> AsyncIterator[Any]:
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(FETCH):
        for row in rows:
            yield row


def _as_bytea(content: bytes) -> str:
    r"""As Postgres's `encode(…, 'escape')` writes it. Pure."""
    return "".join(
        "\\\\" if byte == ord("\\") else f"\\{byte:03o}" if byte == 0 or byte > 127 else chr(byte) for byte in content
    )


def _escaped(text: str) -> str:
    """As LIKE takes it for itself. Pure."""
    return re.sub(r"([\\%_])", r"\\\1", text)
