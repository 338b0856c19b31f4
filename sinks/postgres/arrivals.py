"""Decodes `<dataset>.clean` into arrivals: records ready to be staged, with the coordinates that decide their order."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from schemas.dataset import KEY_SEPARATOR, Dataset
from schemas.errors import HOSTILE, InvalidRecord
from schemas.events import DELETED, CleanRecord, Origin
from schemas.text import fold

NULL = r"\N"

LONGEST_JOB = 100
"""Characters of the name of a job that reprocesses."""

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


class Arrival(msgspec.Struct, eq=False, gc=False):
    """A clean record. `row` is its line for COPY, without the coordinates; `data` the JSON it came as.

    A delete has no content: its `row` is empty and its `data` is `null`.
    """

    dataset: Dataset
    key: str
    origin: Origin
    data: bytes
    row: str
    unique: tuple[str | None, ...]
    """Values of the dataset's unique fields, in their order."""
    source: str | None = None
    kind: str | None = None
    run: str | None = None
    reprocess: str | None = None
    """The job that had it normalized again."""

    @property
    def deletes(self) -> bool:
        return not self.row


_decode_clean = msgspec.json.Decoder(CleanRecord).decode


def decode_arrival(dataset: Dataset, value: bytes | None) -> Arrival:
    """The arrival in a message's value. Pure. Raises InvalidRecord (`clean_form`) for what is no clean record."""
    if value is None:
        raise InvalidRecord("clean_form", f"a null value on {dataset.clean_topic} names no raw record")
    try:
        record = _decode_clean(value)
        key, data = record.key, bytes(record.data)
        if "\x00" in key:
            raise ValueError("no key of ours has a NUL")
        if record.reprocess and not (record.reprocess.isalnum() and len(record.reprocess) <= LONGEST_JOB):
            raise ValueError("`reprocess` names no job")
        if data != DELETED:
            data, row, unique = _row_of(dataset, key, data)
        elif dataset.normal_key(key) == key:
            row, unique = "", ()
        else:
            raise ValueError("the key that is to be deleted is not in its normal form")
    except (msgspec.MsgspecError, *HOSTILE) as error:
        raise InvalidRecord("clean_form", f"not a clean record of {dataset.name}: {error}") from error
    return Arrival(
        dataset, key, record.origin, data, row, unique, record.source, record.kind, record.run, record.reprocess
    )


def arrival_of(dataset: Dataset, key: str, origin: Origin, data: bytes) -> Arrival:
    """The arrival of a record in normal form. Pure. Raises MsgspecError or ValueError for another declaration's."""
    data, row, unique = _row_of(dataset, key, data)
    return Arrival(dataset, key, origin, data, row, unique)


def _row_of(dataset: Dataset, key: str, data: bytes) -> tuple[bytes, str, tuple[str | None, ...]]:
    found, data, row, unique = _row_builder(dataset)(data)
    if found != key:
        raise ValueError(f"the key {key!r} is not that of its data, {found!r}")
    return data, row, unique


RowBuilder = Callable[[bytes], tuple[str, bytes, str, tuple[str | None, ...]]]


@cache
def _row_builder(dataset: Dataset) -> RowBuilder:
    """A function from a record's JSON to its key, its JSON with every field, its fields and search text as a line for
    COPY, its unique values.
    """
    # `data` travels on into the change event as it is, so it must hold the dataset's fields and nothing else. What may
    # be absent may be missing too: such a record was on its way when the field was declared.
    whole, any_form = _row_decoder(dataset, whole=True), _row_decoder(dataset, whole=False)
    names = [field.name for field in dataset.fields]
    has_numbers = any(field.type.json_type == "integer" for field in dataset.fields)
    key = [names.index(name) for name in dataset.key]
    search = [names.index(name) for name in dataset.search_fields]
    unique = [names.index(name) for name in dataset.unique]
    astuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple

    def build(data: bytes) -> tuple[str, bytes, str, tuple[str | None, ...]]:
        try:
            values = astuple(whole(data))
            texts: tuple[Any, ...] = tuple(map(_text, values)) if has_numbers else values
        except msgspec.ValidationError:
            values = astuple(any_form(data))
            if msgspec.UNSET in values:
                values = tuple([None if value is msgspec.UNSET else value for value in values])
                data = msgspec.json.encode(dict(zip(names, values, strict=True)))
            texts = tuple(map(_text, values))
        found = [texts[i] for i in search]
        if None in found:
            found = [text for text in found if text is not None]
        key_text = texts[key[0]] if len(key) == 1 else KEY_SEPARATOR.join([texts[i] for i in key])
        # In JSON, whatever COPY would have escaped is written with a backslash: one look at the bytes is enough.
        row = copy_row((*texts, fold(" ".join(found))), escape=b"\\" in data)
        return key_text, data, row, tuple([texts[i] for i in unique])

    return build


def _row_decoder(dataset: Dataset, *, whole: bool) -> Callable[[bytes], Any]:
    """A decoder of records that have every field, each with a value of its kind; or else of any that can be stored."""
    fields: list[Any] = []
    for field in dataset.fields:
        kind: Any = (int if field.type.json_type == "integer" else str) if whole else str | int
        if field.required:
            fields.append((field.name, kind))
        else:
            fields.append(
                (field.name, kind | None) if whole else (field.name, kind | msgspec.UnsetType | None, msgspec.UNSET)
            )
    struct = msgspec.defstruct(f"{dataset.name}_row", fields, forbid_unknown_fields=True, kw_only=True, gc=False)
    return msgspec.json.Decoder(struct).decode


def _text(value: str | int | None) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def copy_row(values: Sequence[str | None], *, escape: bool = True) -> str:
    """The values as one line for COPY, without its end: Postgres parses the numbers and dates. Pure.

    `escape=False` is for values that are known to hold no backslash, tab or line end: several times as fast.
    """
    if escape:
        return "\t".join([NULL if value is None else value.translate(_ESCAPES) for value in values])
    if None in values:
        values = [NULL if value is None else value for value in values]
    return "\t".join(values)  # type: ignore[arg-type]


def newest_per_key(arrivals: list[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Split into the newest arrival of each key and those it overtook."""
    return _one_per_key(arrivals, Origin.is_newer_than)


def oldest_per_key(arrivals: list[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Split into the oldest arrival of each key and those that came after it."""
    return _one_per_key(arrivals, lambda one, other: other.is_newer_than(one))


def _one_per_key(
    arrivals: list[Arrival], wins: Callable[[Origin, Origin], bool]
) -> tuple[list[Arrival], list[Arrival]]:
    chosen: dict[str, Arrival] = {arrival.key: arrival for arrival in arrivals}
    if len(chosen) == len(arrivals):
        return arrivals, []
    chosen.clear()
    others = []
    for arrival in arrivals:
        held = chosen.get(arrival.key)
        if held is None or wins(arrival.origin, held.origin):
            chosen[arrival.key] = arrival
            if held is not None:
                others.append(held)
        else:
            others.append(arrival)
    return list(chosen.values()), others
