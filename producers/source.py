"""A source: a name, a dataset, a field mapping, and records that come in batches.

A kind of source is a model of its block in sources.toml (producers/block.py) that builds a `Source`, in a file or
folder here, and a line in schemas/source_kinds.py.
"""

import csv
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from producers.text.found_encoding import TextEncoding
from runtime.errors import Explained
from runtime.server_addresses import without_secrets
from schemas.dataset import Dataset
from schemas.field_reading import FieldReading
from schemas.fields import FromSource
from stores.checkpoints import Position

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""A name becomes part of record keys, where `:` separates, and of the 100-character column source_name."""

ROW = "@row"
"""As a column of a table: the row by its place, file and line."""


class SourceFailed(Explained):
    """A source cannot be read (any further): the run failed, other sources are unaffected.

    `reason` names the address or file, what it answered, and what to do.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = without_secrets(reason)  # it is stored, shown and logged
        super().__init__(f"{source}: {self.reason}")


RecordHeaders = tuple[tuple[str, bytes | None], ...]


class SourceRecord(NamedTuple):
    """One record as it will be published. `problem` is a reason code with an optional `;message`; `headers` are those
    that the record brought along and that travel on with it.

    Without a value it deletes the record of that key.

    A record with a problem is published like any other, so that it has coordinates; the normalizer then rejects it
    with that reason.
    """

    value: bytes | None
    key: str | None
    problem: str | None = None
    headers: RecordHeaders = ()


class SourceBatch(NamedTuple):
    """Records in the source's order. `done` is the share of the source read so far (0 to 1), None if unknown.

    The rest comes from `ResumableSource.resume` only. `position`: where a later run may go on when every record so far
    is confirmed; None where it can't be told. `before` must be saved before these records are sent: they make untrue
    what the checkpoint says. `unchanged`: how many records were left out because they were sent before as they are.
    `blank`: how many rows were left out because nothing is in them. `readings`: how to read these records, where the
    source has found out more than its block says.
    `encoding` is that of the text it was read from, where it had to be found out.
    `left_out`: columns of the source's table that give no field of the dataset.
    `on_confirmed` is awaited once the broker has confirmed these records and all before them, and before the next batch
    is asked for; what it raises ends the run. It has publishing wait, so a source gives one now and then.
    """

    records: list[SourceRecord]
    done: float | None
    position: Position | None = None
    before: Position | None = None
    unchanged: int = 0
    on_confirmed: Callable[[], Awaitable[None]] | None = None
    blank: int = 0
    readings: Mapping[str, FieldReading] | None = None
    encoding: TextEncoding | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceDescription:
    """The part that all kinds have. `mapping` is {field of the dataset: column or member of the source's record}.

    `readings` holds the fields of which more is to be known than their column. The records of a source that is `pushed`
    come by themselves: there is nothing to run.
    """

    name: str
    kind: str
    dataset: Dataset
    mapping: Mapping[str, str] = field(default_factory=dict)
    interval_seconds: float | None = None
    readings: Mapping[str, FieldReading] = field(default_factory=dict)
    pushed: bool = False
    content_type: str = "application/json"
    """Media type of the records' values."""

    def columns_of(self, field: str) -> tuple[str, ...]:
        """The columns that give a field: one, unless their values are joined."""
        reading = self.readings.get(field)
        return (reading.columns if reading else ()) or (self.mapping.get(field, field),)

    def columns_of_key(self) -> dict[str, tuple[str, ...]]:
        """The columns of each field of the key that records have, and not the source."""
        types = {field.name: field.type for field in self.dataset.fields}
        return {name: self.columns_of(name) for name in self.dataset.key if not isinstance(types[name], FromSource)}

    def field_readings(self) -> dict[str, FieldReading]:
        """The way to read every field that is mapped or has a rule of its own."""
        columns = {name: FieldReading(column) for name, column in self.mapping.items()}
        rules = self.readings.items()
        return columns | {
            name: msgspec.structs.replace(reading, column=self.mapping.get(name)) for name, reading in rules
        }


class Source(Protocol):
    """Something to publish from. Each call of `batches` reads it from its beginning."""

    @property
    def description(self) -> SourceDescription: ...

    def batches(self) -> AsyncIterator[SourceBatch]:
        """All records in the source's order, in bounded memory; does not block the event loop. Raises SourceFailed."""
        ...


@runtime_checkable
class ResumableSource(Source, Protocol):
    """A source that can go on where an earlier run ended, or was ended."""

    @property
    def scope(self) -> str:
        """All that a position depends on besides the source's data and its description; another scope voids it."""
        ...

    def resume(self, since: Position | None) -> AsyncIterator[SourceBatch]:
        """The records after a position, or changed since, with positions of their own. None: all. Raises SourceFailed.

        `since` is what saving those positions, in order, has made of the one that was given before.
        """
        ...


def check_takes_records(dataset: Dataset) -> Dataset:
    """The dataset itself. Raises ValueError for one that is written by requests to the API."""
    if dataset.written_by == "api":
        raise ValueError(f"{dataset.name} takes no records from sources: POST /{dataset.name}/ writes them")
    return dataset


def check_source_name(name: str) -> str:
    """The name itself. Raises ValueError for a name that cannot be part of a key."""
    if not SOURCE_NAME.fullmatch(name):
        raise ValueError(
            f"source name {name!r}: use 1 to 100 letters, digits, '_', '-' and '.', beginning with a letter or digit"
        )
    return name


def key_columns(text: str) -> tuple[str, ...]:
    """The columns in `a,b`; a name with a comma in it is in quotes, as in a header: `"Surname, name",born`. Pure."""
    return tuple(next(csv.reader([text], skipinitialspace=True), ()))
