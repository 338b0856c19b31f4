"""A source: a name, a dataset, a field mapping, and records that come in batches.

A kind of source is a model of its block in sources.toml (`SourceBlock`) that builds a `Source`, in a file or folder
here, and an entry in producers/sources.py.
"""

import abc
import csv
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, get_args, runtime_checkable

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from producers.text.found_encoding import TextEncoding
from runtime.errors import Explained
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.field_reading import DateOrder, FieldReading
from schemas.fields import Date, Decimals, FieldType, FromSource, Phone, Text, check_region
from schemas.members import plain_name
from schemas.registry import UnknownDataset, dataset_named
from stores.checkpoints import Position

_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""A name becomes part of record keys, where `:` separates, and of the 100-character column source_name."""


ROW = "@row"
"""As a column of a table: the row by its place, file and line."""


class SourceFailed(Explained):
    """A source cannot be read (any further): the run failed, other sources are unaffected.

    `reason` names the address or file, what it answered, and what to do.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


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


def _text_or_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a text or a number")  # noqa: TRY004 (pydantic reports ValueErrors)
    return value


ColumnName = Annotated[str, Field(min_length=1), AfterValidator(plain_name)]


def key_columns(text: str) -> tuple[str, ...]:
    """The columns in `a,b`; a name with a comma in it is in quotes, as in a header: `"Surname, name",born`. Pure."""
    return tuple(next(csv.reader([text], skipinitialspace=True), ()))


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _shown(key: tuple[str, ...]) -> object:
    return key[0] if len(key) == 1 else list(key)


class SourceBlock(BaseModel, abc.ABC):
    """The part of a block in sources.toml that every kind has. Validated with the context {"folder": Path}."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    pushed: ClassVar[bool] = False
    """Records of this kind come by themselves instead of being fetched by a run."""
    content_type: ClassVar[str] = "application/json"
    """Media type of the records' values."""
    has_lines: ClassVar[bool] = False
    """Records can be told by their place: then ROW is a column."""

    kind: str
    dataset: str
    key: Annotated[tuple[ColumnName, ...], BeforeValidator(_one_or_several)] = ()
    """Column that holds the record's id: short for a mapping of the last field of the dataset's key. Or several, whose
    values are joined."""
    mapping: dict[str, ColumnName] = Field(default_factory=dict, alias="map")
    """Column, or member of a JSON object, that gives a field; `author.name` reaches into nested objects."""
    defaults: dict[str, Annotated[Any, AfterValidator(_text_or_number)]] = Field(default_factory=dict)
    """Values of fields for which the record has nothing, or null, or an empty text."""
    required: tuple[str, ...] = ()
    """Fields without which a record of this source is a failure, besides those that the dataset requires anyway."""
    nulls: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    """Texts that mean nothing in fields of numbers, dates, addresses; not given: NULLS where they can't be read."""
    text_nulls: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The same in fields of text, where nothing of the kind is guessed."""
    dates: DateOrder | None = None
    """The meaning of 01/02/2024; without it such a date is a failure (`ambiguous_date`)."""
    region: Annotated[str, AfterValidator(check_region)] | None = None
    """The country (ISO 3166) of telephone numbers without a code; without it they are failures (`ambiguous_phone`)."""
    interval_seconds: Annotated[float, Field(ge=0)] | None = None
    """Seconds between two scheduled runs; 0: none. Not given: as ETL_INTERVAL says. See services/runs/scheduler.py."""

    @classmethod
    def kind_name(cls) -> str:
        """The kind that the blocks of this model name."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    @field_validator("dataset")
    @classmethod
    def _is_declared(cls, value: str) -> str:
        try:
            return check_takes_records(dataset_named(value)).name
        except UnknownDataset as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _maps_fields_of_the_dataset(self) -> "SourceBlock":
        dataset = dataset_named(self.dataset)
        _check_known("map", self.mapping, dataset)
        last = dataset.key[-1]
        if self.key and last in self.mapping and self.key != (self.mapping[last],):
            raise ValueError(
                f"key = {_shown(self.key)!r} contradicts map.{last} = {self.mapping[last]!r}; give one of them"
            )
        if ROW in (*self.key, *self.mapping.values()) and not self.has_lines:
            raise ValueError(f"only the rows of a csv source have a place; {ROW} is no column here")
        if len(set(self.key)) < len(self.key):
            raise ValueError(f"key = {_shown(self.key)!r} names a column twice")
        _check_known("required", self.required, dataset)
        _check_known("defaults", self.defaults, dataset)
        if keys := sorted(set(dataset.key) & self.defaults.keys()):
            raise ValueError(f"defaults: {keys[0]} is part of the key: all records without it would become one")
        if both := sorted(self.defaults.keys() & set(self.required)):
            raise ValueError(f"required: {both[0]} has a default, so it is never missing; give one of them")
        self.readings()
        return self

    def readings(self) -> dict[str, FieldReading]:
        """The rules of this block by field, without the columns. Raises ValueError for a default that is no value."""
        found = {}
        for f in dataset_named(self.dataset).fields:
            default = None
            if f.name in self.defaults:
                try:
                    default = f.type.normalize(self.defaults[f.name])
                except InvalidField as error:
                    raise ValueError(f"defaults.{f.name} = {self.defaults[f.name]!r}: {error.message}") from None
                if default is None:
                    raise ValueError(f"defaults.{f.name} is empty; leave it out")
            reading = FieldReading(
                default=default,
                required=f.name in self.required,
                dates=self.dates if isinstance(f.type, Date) else None,
                decimal=self._decimal_of(f.type),
                nulls=self._nulls_of(f.type),
                region=self.region if isinstance(f.type, Phone) else None,
                columns=self.key if len(self.key) > 1 and f.name == dataset_named(self.dataset).key[-1] else (),
            )
            if reading != FieldReading():
                found[f.name] = reading
        return found

    def _decimal_of(self, field_type: FieldType) -> Decimals | None:  # noqa: ARG002 (a kind of text needs it)
        """The decimal mark of a field in this source; None for a point."""
        return None

    def _nulls_of(self, field_type: FieldType) -> tuple[str, ...] | None:
        if isinstance(field_type, FromSource):
            return None
        return self.text_nulls or None if isinstance(field_type, Text) else self.nulls

    def describe(self, name: str) -> SourceDescription:
        """The description of the source that this block declares under `name`."""
        dataset = dataset_named(self.dataset)
        mapping = {**self.mapping, dataset.key[-1]: self.key[0]} if len(self.key) == 1 else self.mapping
        # What is pushed is never due, whatever the interval of sources that name none.
        interval = 0.0 if self.pushed else self.interval_seconds
        return SourceDescription(
            name, self.kind, dataset, mapping, interval, self.readings(), self.pushed, self.content_type
        )

    @abc.abstractmethod
    def build(self, name: str, settings: Settings, folder: Path) -> Source:
        """The source. Opens nothing; relative paths are relative to `folder`."""


def check_takes_records(dataset: Dataset) -> Dataset:
    """The dataset itself. Raises ValueError for one that is written by requests to the API."""
    if dataset.written_by == "api":
        raise ValueError(f"{dataset.name} takes no records from sources: POST /{dataset.name}/ writes them")
    return dataset


def _check_known(setting: str, names: Iterable[str], dataset: Dataset) -> None:
    known = [f.name for f in dataset.fields]
    if unknown := sorted(set(names) - set(known)):
        fields = ", ".join(known)
        raise ValueError(f"{setting}: dataset {dataset.name} has no field {unknown[0]!r}; its fields are: {fields}")


def check_source_name(name: str) -> str:
    """The name itself. Raises ValueError for a name that cannot be part of a key."""
    if not _SOURCE_NAME.fullmatch(name):
        raise ValueError(
            f"source name {name!r}: use 1 to 100 letters, digits, '_', '-' and '.', beginning with a letter or digit"
        )
    return name
