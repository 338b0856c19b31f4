"""The keys that a record names: its own, and those of other datasets' records that it is about. Pure.

A record in normal form says them by its fields. Of a raw one nobody may know which field was mapped to which, and it
may be no JSON at all: there, whatever could be a key is looked at.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec

from schemas.dataset import Dataset
from schemas.errors import HOSTILE
from schemas.field_reading import FieldReading, reader_of
from schemas.registry import dataset_named
from schemas.text import unmarked

SHORTEST = 5
"""Characters of what is taken for a key wherever it stands, since ages and quantities are numbers, too."""

MOST_TEXTS = 2_000
"""Texts of one raw record that are looked at."""

LONGEST_TEXT = 1_000

ADDRESS = "an address"
"""In the place of a dataset: the name is an e-mail address or a telephone number. No dataset is called so."""

_LOCAL, _PLAIN = r"[\w.!#$%&'*+/=?^`{|}~-]", r"[\w.+-]"
_ADDRESSES = re.compile(rf"(?<!{_LOCAL}){_LOCAL}++@[\w.-]+\w|(?<!{_PLAIN})\+[0-9]{{7,15}}(?!\w)")
_PLAIN_TAIL = re.compile(rf"(?<!{_PLAIN}){_PLAIN}++@.*")

_CELLS = re.compile(r"[;,|\t\r\n\"']+")
_WORDS = re.compile(r"[\w.@+%:/-]+")


class Name(NamedTuple):
    """A key in normal form, and its dataset."""

    dataset: str
    key: str


def names_of(dataset: Dataset, key: str, data: bytes) -> set[Name]:
    """The keys that a record in normal form names; of a delete (`null`) its own. Pure."""
    names = {Name(dataset.name, key)}
    if dataset.about and (said := _about(dataset)(data)) is not None:
        names.update(Name(other, value) for (_, other), value in zip(_others(dataset), said, strict=True) if value)
    return names


def mentioned(dataset: Dataset, key: str | None, payload: bytes | None) -> set[Name]:
    """The keys that a raw record may name: by its Kafka key, and by the member that is called like the key, or by any
    text in it where there is no such member. Of one with neither also the addresses in it. Pure; never raises.
    """
    names, keyed = set(), key is not None
    if key is not None and (name := _name(dataset, key)):
        names.add(name)
    # Both ways: what looks like a mark may be none.
    readings = {unmarked(payload or b""): None, payload or b"": None}
    texts = list(islice(chain.from_iterable(map(_texts, readings)), MOST_TEXTS))
    for called, named in _named_by(dataset):
        said = [text for member, text in texts if member == called]
        keyed = keyed or bool(said)
        for text in said or [text for _, text in texts if len(text) >= SHORTEST]:
            if name := _name(named, text):
                names.add(name)
    if not keyed:
        names.update(chain.from_iterable(map(_addresses, readings)))
    return names


def address(text: str) -> Name:
    """The name that an address in normal form has here. Pure."""
    return Name(ADDRESS, text.lower())


def _addresses(payload: bytes) -> Iterator[Name]:
    """Whatever has the form of an address, wherever it stands, with and without signs around it."""
    text = payload.decode("utf-8", "replace")
    if "\\u" in text:
        with suppress(*HOSTILE):  # of escapes the letters
            text = msgspec.json.encode(msgspec.json.decode(text)).decode()
    for found in islice(_ADDRESSES.finditer(text), MOST_TEXTS):
        yield address(found[0])
        if plain := _PLAIN_TAIL.search(found[0]):
            yield address(plain[0])


def _name(dataset: Dataset, text: str) -> Name | None:
    try:
        key = _normal_key(dataset)(text)
    except HOSTILE:
        return None
    return None if key is None else Name(dataset.name, str(key))


@cache
def _normal_key(dataset: Dataset) -> Callable[[str], str | int | None]:
    """The dataset's `normal_key`, made quick where the key is one field."""
    if len(dataset.key) > 1:
        return dataset.normal_key
    [field] = [field for field in dataset.fields if field.name == dataset.key[0]]
    return reader_of(field.type, FieldReading())


def _texts(payload: bytes) -> Iterator[tuple[str, str]]:
    """Every text or number in a payload, with the name of its member; of no JSON the cells of a line, and its words."""
    if not payload:
        return
    try:
        yield from _scalars("", msgspec.json.decode(payload))
    except HOSTILE:
        text = payload.decode("utf-8", "replace")
        yield from (("", cell.strip()[:LONGEST_TEXT]) for cell in _CELLS.split(text) if cell.strip())
        yield from (("", word[:LONGEST_TEXT]) for word in _WORDS.findall(text))


def _scalars(member: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _scalars(name, one)
    elif isinstance(value, list):
        for one in value:
            yield from _scalars(member, one)
    elif isinstance(value, str):
        yield member, value[:LONGEST_TEXT]
        if _CELLS.search(value):  # a row that its producer could not read
            yield from (("", cell.strip()[:LONGEST_TEXT]) for cell in _CELLS.split(value) if cell.strip())
    elif value is not None and not isinstance(value, bool):
        yield member, str(value)


@cache
def _named_by(dataset: Dataset) -> tuple[tuple[str, Dataset], ...]:
    """Members that hold keys, and the datasets of these."""
    return (dataset.key[-1], dataset), *((field, dataset_named(other)) for field, other in dataset.about.items())


@cache
def _others(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    return tuple(dataset.about.items())


@cache
def _about(dataset: Dataset) -> Any:
    """A decoder of the fields that are about others; None of a delete."""
    kind: Any = str | int | None
    struct = msgspec.defstruct("About", [(name, kind, None) for name in dataset.about], gc=False)
    decode = msgspec.json.Decoder(struct | None).decode

    def read(data: bytes) -> tuple[str | None, ...] | None:
        found = decode(data)
        return (
            None if found is None else tuple(str(v) if v is not None else None for v in msgspec.structs.astuple(found))
        )

    return read
