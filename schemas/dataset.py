"""A dataset, declared once: model, key, unique fields, table. Topics, columns and keys are derived from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from schemas.declaration import OWN_COLUMNS, UnheededDeclaration, field_types, misnamed, unfit_names, unheeded
from schemas.fields import FieldType, FromSource, KeyText, Text
from schemas.text import fold

KEY_SEPARATOR = ":"

_Writer = Literal["pipeline", "api"]


@dataclass(frozen=True)
class DatasetField:
    """One field of a dataset: its name, whether it must be present, and its type."""

    name: str
    required: bool
    type: FieldType
    default: str | int | None = None
    """Value of a record that lacks the field or leaves it empty, written as a source would; None for no value."""


@dataclass(frozen=True)
class Dataset:
    """The declaration of a dataset, in its one file under `schemas/datasets/`.

    `key` names the fields that identify a record; all but the last must not contain the key separator `:`.
    `unique` names fields that no two records may share: the later arrival goes to failures as `<field>_conflict`, until
    it can have the value.
    """

    name: str
    model: type[BaseModel]
    key: tuple[str, ...]
    table: str
    unique: tuple[str, ...] = ()
    first_wins: bool = False
    """True to store the first record of a key that arrives; later ones are superseded. Otherwise the latest is stored.
    After a delete the next to arrive is the first: see decision 0015."""
    indexed: tuple[str, ...] = ()
    """Fields that reads filter by, each with an index of its own."""
    personal: tuple[str, ...] = ()
    """Fields that are personal data, beside those whose type is (an e-mail address, a telephone number)."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Fields that hold the key of a record of another dataset, and its name: forgetting that one deletes these."""
    serial_id: bool = False
    """Give rows a generated BIGINT `id` as primary key; otherwise the key is the primary key."""
    example: Mapping[str, str | int | float] = field(default_factory=dict, compare=False)
    """A record as a source may give it; `headrace topics` shows what becomes of it on each topic."""
    written_by: _Writer = "pipeline"
    """`api`: requests write the rows, and the outbox tells of them. There are no raw and no clean topic then."""

    def __hash__(self) -> int:
        # That of a dataclass hashes every field, and datasets are looked up per record.
        return hash(self.name)

    def __post_init__(self) -> None:
        """Raises UnheededDeclaration for what the pipeline would ignore, and for what does not fit together."""
        named = {"key": self.key, "unique": self.unique, "indexed": self.indexed}
        named |= {"personal": self.personal, "about": tuple(self.about)}
        reserved = OWN_COLUMNS | ({"id"} if self.serial_id else set())
        lines = unfit_names(self.name, self.table) + unheeded(self.model) + misnamed(self.model, named, reserved)
        if self.written_by not in (ways := get_args(_Writer)):
            lines.append(f"written_by: {self.written_by!r} is none of {', '.join(ways)}")
        if lines:
            told = "\n".join(f"  {line}" for line in lines)
            raise UnheededDeclaration(f"dataset {self.name!r} ({self.model.__name__}) cannot be declared so:\n{told}")

    @property
    def raw_topic(self) -> str:
        """Logical name: the source's bytes, untouched."""
        return f"{self.name}.raw"

    @property
    def clean_topic(self) -> str:
        """Logical name: validated and normalized."""
        return f"{self.name}.clean"

    @property
    def changed_topic(self) -> str:
        """Logical name: rows as stored, published after the commit."""
        return f"{self.name}.changed"

    @cached_property
    def fields(self) -> tuple[DatasetField, ...]:
        """The model's fields in order of declaration."""
        hints = get_type_hints(self.model, include_extras=True)
        infos = self.model.model_fields
        return tuple(
            _field(name, hint, infos[name].default, in_key=name in self.key)
            for name, hint in hints.items()
            if name in infos
        )

    @cached_property
    def search_fields(self) -> tuple[str, ...]:
        """Fields that a search looks into."""
        return tuple(f.name for f in self.fields if f.type.search)

    @cached_property
    def personal_fields(self) -> frozenset[str]:
        """Fields that are personal data."""
        return frozenset(f.name for f in self.fields if f.type.personal or f.name in self.personal)

    @cached_property
    def source_fields(self) -> tuple[tuple[str, str], ...]:
        """(field, part) of fields that the source fills in where the record does not."""
        return tuple((f.name, f.type.part) for f in self.fields if isinstance(f.type, FromSource))

    def search_text(self, data: Mapping[str, Any]) -> str:
        """The text that a search looks into: the values of the searched fields, folded."""
        return fold(" ".join([str(data[name]) for name in self.search_fields if data.get(name) is not None]))

    def key_text(self, data: Mapping[str, Any]) -> str:
        """The key as text: Kafka key, document id and cache key, e.g. `CUST001` or `titanic:17`."""
        if len(self.key) == 1:
            return str(data[self.key[0]])
        return KEY_SEPARATOR.join([str(data[name]) for name in self.key])

    def normal_key(self, key_text: str) -> str:
        """The text of the key under which a record is kept that was sent with this one. Pure; idempotent.

        Raises ValueError for what no record can have as its key.
        """
        given = self.key_fields(key_text)
        fields = {f.name: f.type.normalize(given[f.name]) for f in self.fields if f.name in given}
        if empty := [name for name, value in fields.items() if value is None]:
            raise ValueError(f"{key_text!r} is no key of {self.name}: its {empty[0]} is empty")
        return self.key_text(fields)

    def key_fields(self, key_text: str) -> dict[str, str]:
        """The inverse of `key_text`. Raises ValueError if the text has too few parts."""
        parts = key_text.split(KEY_SEPARATOR, len(self.key) - 1)
        if len(parts) != len(self.key):
            raise ValueError(f"{key_text!r} is no key of {self.name}: expected {KEY_SEPARATOR.join(self.key)}")
        return dict(zip(self.key, parts, strict=True))


def _field(name: str, hint: Any, default: Any, *, in_key: bool) -> DatasetField:
    base, *metadata = get_args(hint)
    [field_type] = field_types(metadata)
    if in_key and isinstance(field_type, Text):
        field_type = KeyText(field_type.max_length, field_type.search)
    default = None if default is PydanticUndefined else default
    return DatasetField(name, required=NoneType not in get_args(base), type=field_type, default=default)
