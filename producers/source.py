"""What a source is: a name, a dataset, a field mapping, and records that come in batches.

A kind of source is one file here: a model of its block in sources.toml (`SourceBlock`) that builds a `Source`.
"""

import abc
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.errors import Explained
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import UnknownDataset, dataset_named

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""A name becomes part of record keys, where `:` separates, and of the 100-character column source_name."""


class SourceFailed(Explained):
    """A source cannot be read (any further): the run failed, other sources are unaffected.

    `reason` names the address or file, what it answered, and what to do.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class SourceRecord(NamedTuple):
    """One record as it will be published. `problem` is a reason code with an optional `;message`.

    Without a value it deletes the record of that key.

    A record with a problem is published like any other, so that it has coordinates; the normalizer then rejects it
    with that reason.
    """

    value: bytes | None
    key: str | None
    problem: str | None = None


class SourceBatch(NamedTuple):
    """Records in the source's order. `done` is the share of the source read so far (0 to 1), None if unknown."""

    records: list[SourceRecord]
    done: float | None


@dataclass(frozen=True)
class SourceDescription:
    """What every kind of source has. `mapping` is {field of the dataset: column or member of the source's record}."""

    name: str
    kind: str
    dataset: Dataset
    mapping: Mapping[str, str] = field(default_factory=dict)
    interval_seconds: float | None = None


class Source(Protocol):
    """Something to publish from. Each call of `batches` reads it anew, from its beginning."""

    @property
    def description(self) -> SourceDescription: ...

    @property
    def content_type(self) -> str:
        """Media type of the records' values."""
        ...

    def batches(self) -> AsyncIterator[SourceBatch]:
        """All records in the source's order, in bounded memory; does not block the event loop. Raises SourceFailed."""
        ...


class SourceBlock(BaseModel, abc.ABC):
    """The part of a block in sources.toml that every kind has. Validated with the context {"folder": Path}."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: str
    dataset: str
    key: str | None = Field(default=None, min_length=1)
    """Column that holds the record's id: short for a mapping of the last field of the dataset's key."""
    mapping: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict, alias="map")
    interval_seconds: Annotated[float, Field(ge=0)] | None = None
    """Seconds between two scheduled runs; 0: none. Not given: as ETL_INTERVAL says. See producers/scheduler.py."""

    @field_validator("dataset")
    @classmethod
    def _is_declared(cls, value: str) -> str:
        try:
            return dataset_named(value).name
        except UnknownDataset as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _maps_fields_of_the_dataset(self) -> "SourceBlock":
        dataset = dataset_named(self.dataset)
        known = [f.name for f in dataset.fields]
        if unknown := sorted(self.mapping.keys() - set(known)):
            fields = ", ".join(known)
            raise ValueError(f"map: dataset {dataset.name} has no field {unknown[0]!r}; its fields are: {fields}")
        last = dataset.key[-1]
        if self.key is not None and self.mapping.get(last, self.key) != self.key:
            raise ValueError(f"key = {self.key!r} contradicts map.{last} = {self.mapping[last]!r}; give one of them")
        return self

    def describe(self, name: str) -> SourceDescription:
        """The description of the source that this block declares under `name`."""
        dataset = dataset_named(self.dataset)
        mapping = self.mapping if self.key is None else {**self.mapping, dataset.key[-1]: self.key}
        return SourceDescription(name, self.kind, dataset, mapping, self.interval_seconds)

    @abc.abstractmethod
    def build(self, name: str, settings: Settings, folder: Path) -> Source:
        """The source. Opens nothing; relative paths are relative to `folder`."""


def check_source_name(name: str) -> str:
    """The name itself. Raises ValueError for a name that cannot be part of a key."""
    if not SOURCE_NAME.fullmatch(name):
        raise ValueError(
            f"source name {name!r}: use 1 to 100 letters, digits, '_', '-' and '.', beginning with a letter or digit"
        )
    return name


BlockValues = Mapping[str, Any]
"""A block of sources.toml as TOML gives it."""
