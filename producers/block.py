"""Settings of blocks in sources.toml that kinds share: those of every kind, of fetching, and of an address."""

import abc
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from producers.source import ROW, Source, SourceDescription, check_takes_records
from runtime.egress import checked_address
from runtime.settings import Interval, Settings
from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.field_reading import DateOrder, FieldReading, plain_name
from schemas.fields import Date, Decimals, FieldType, FromSource, Phone, Text, check_region
from schemas.registry import UnknownDataset, dataset_named

Trouble = Literal["timeout", "connection"]
"""No answer in time; no connection, or one that broke."""

RETRIED: tuple[int | Trouble, ...] = (408, 425, 429, 500, 502, 503, 504, "timeout", "connection")
"""Troubles that may pass by themselves; any other status is an answer."""


def _text_or_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a text or a number")  # noqa: TRY004 (pydantic reports ValueErrors)
    return value


ColumnName = Annotated[str, Field(min_length=1), AfterValidator(plain_name)]


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
    interval_seconds: Interval | None = None
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


def _may_pass(reason: object) -> object:
    if reason in get_args(Trouble) or (isinstance(reason, int) and 400 <= reason <= 599):
        return reason
    raise ValueError('expected a status from 400 to 599, "timeout" or "connection"')


class FetchBlock(SourceBlock):
    """Settings for fetching an answer: pace, tries and bounds."""

    rate_limit: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Requests a second, tries again included; None: as fast as it answers."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0
    """Time that one try waits for a connection, and then for each part of the answer."""
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Tries after the first one."""
    retry_on: tuple[Annotated[Any, AfterValidator(_may_pass)], ...] = RETRIED
    """Statuses that are tried again, and `timeout` and `connection`."""
    backoff_seconds: Annotated[float, Field(gt=0, le=600)] = 0.5
    """The longest random wait before the second try; each further one may be twice as long."""
    longest_backoff_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    longest_wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    """A server that asks for a longer wait (Retry-After) is not waited for: the run fails and says so."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 64 * 1_048_576
    """The longest answer, unpacked: a longer one fails the run before it fills memory or disk."""
    max_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Time that one answer may take from the request to its last byte, redirects included."""

    @model_validator(mode="after")
    def _backs_off(self) -> "FetchBlock":
        if self.backoff_seconds > self.longest_backoff_seconds:
            raise ValueError("backoff_seconds is more than longest_backoff_seconds")
        return self


class HttpBlock(FetchBlock):
    """The part of a block that every source at an address of its own has."""

    url: str
    api_key: bool = False
    """Send `API_KEY` as the header X-API-Key."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return checked_address(value)


def _check_known(setting: str, names: Iterable[str], dataset: Dataset) -> None:
    known = [f.name for f in dataset.fields]
    if unknown := sorted(set(names) - set(known)):
        fields = ", ".join(known)
        raise ValueError(f"{setting}: dataset {dataset.name} has no field {unknown[0]!r}; its fields are: {fields}")
