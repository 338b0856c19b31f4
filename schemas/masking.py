"""Masks personal data in whatever shows records beside the read endpoints: failures, topics, traces, drifts. Pure.

A field is shown only where it is known to be none: what a dataset does not declare may be anything, and so may a text
that cannot be read. Where a dataset has no personal fields nothing is masked.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from schemas.dataset import Dataset
from schemas.errors import HOSTILE
from schemas.field_reading import decode_mapping, member_path, plain_name
from schemas.registry import all_datasets

MASK = "[masked]"

_encode = msgspec.json.Encoder().encode

OWN_MEMBERS = frozenset({"id", "created_at", "updated_at", "version", "source", "run"})
"""Members of a row that the pipeline adds."""


def dataset_of(name: str) -> Dataset | None:
    """The dataset of that name, None if there is none. Pure."""
    return next((dataset for dataset in all_datasets() if dataset.name == name), None)


def masks(dataset: Dataset | None) -> bool:
    """True where something of a record of the dataset is masked: also of one that nobody knows."""
    return dataset is None or bool(dataset.personal_fields)


def masked_key(dataset: Dataset | None, key: str | None) -> str | None:
    """The key, unless one of its fields is personal."""
    if key is None or not masks(dataset):
        return key
    shown = dataset is not None and dataset.personal_fields.isdisjoint(dataset.key) and _is_harmless(key)
    return key if shown else MASK


def masked_path(path: str) -> str:
    """The path of a request, without the key of somebody's record: it would outlive whoever is forgotten."""
    for dataset in all_datasets():
        begin, named, key = path.partition(f"/{dataset.name}/")
        if key and masks(dataset):
            return f"{begin}{named}{MASK}"
    return path


def masked_row(dataset: Dataset, row: Mapping[str, Any]) -> dict[str, Any]:
    """A record in normal form, or a row as it is served. What is absent stays null."""
    if not masks(dataset):
        return dict(row)
    shown = {field.name for field in dataset.fields} - dataset.personal_fields | OWN_MEMBERS
    return {
        name: value if value is None or (name in shown and _is_harmless(value)) else MASK for name, value in row.items()
    }


def masked_data(dataset: Dataset | None, data: bytes) -> bytes:
    """The same of a record in JSON; of what is no object nothing is shown, but for the null of a delete."""
    if not masks(dataset) or data == b"null":
        return data
    record = _object(data)
    return _encode(MASK if record is None or dataset is None else masked_row(dataset, record))


def masked_payload(dataset: Dataset | None, payload: bytes | None, mapping: bytes | None = None) -> bytes | None:
    """A raw record: the members that are read into fields which are not personal, and the names of the others.

    `mapping` is its header. Without it, as where Postgres keeps none, a member is taken for the field of its name. What
    is no JSON object is masked whole.
    """
    if payload is None or not masks(dataset):
        return payload
    record = _object(payload)
    shown = None if dataset is None else _shown_columns(dataset, mapping)
    if record is None or shown is None:
        return MASK.encode()
    return _encode(
        {name: value if value is None or _is_shown(name, value, shown) else MASK for name, value in record.items()}
    )


def masked_message(dataset: Dataset | None, message: str, problems: Sequence[Mapping[str, Any]] = ()) -> str:
    """Why a record failed, without the value that it is about: the fields' names, and what is wrong with harmless ones.

    Any other message is masked whole, since it may quote anything.
    """
    if not masks(dataset):
        return message
    told = [f"{one['field']}: {one['message']}" for one in masked_problems(dataset, problems)]
    return "; ".join(told) or MASK


def masked_problems(dataset: Dataset | None, problems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The problems of fields, without what they say of personal ones."""
    if not masks(dataset):
        return [dict(one) for one in problems]
    shown = set[str]() if dataset is None else {f.name for f in dataset.fields} - dataset.personal_fields
    return [
        {**one, "message": one["message"] if one["field"] in shown and _is_harmless(one["message"]) else MASK}
        for one in problems
    ]


def _is_shown(name: str, value: object, shown: Collection[str]) -> bool:
    return plain_name(name) in shown and _is_harmless(value)


def _is_harmless(value: object) -> bool:
    """False for what may hold more than its field: nested values, and an e-mail address in the wrong place."""
    return not isinstance(value, dict | list) and "@" not in str(value)


def _shown_columns(dataset: Dataset, mapping: bytes | None) -> set[str] | None:
    """The columns from which only fields are read that are not personal; None for a mapping that nobody can read."""
    try:
        readings = decode_mapping(mapping or b"{}")
    except HOSTILE:
        return None
    shown, hidden = set[str](), set[str]()
    for field in dataset.fields:
        reading = readings.get(field.name)
        columns = (reading.columns or (reading.column,)) if reading else ()
        names = {plain_name(column) for column in columns if column} or {field.name}
        names |= {path[0] for name in names if (path := member_path(name))}
        (hidden if field.name in dataset.personal_fields else shown).update(names)
    # A field's own name that the mapping gives to no field may stand for anything in this source.
    return shown - hidden


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(content)
    except HOSTILE:
        return None
    return found if isinstance(found, dict) else None
