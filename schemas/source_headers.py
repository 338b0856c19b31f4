"""A raw record's headers about its source: name, kind, run, and how to read the value."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas.errors import HOSTILE
from schemas.events import HEADER_KIND, HEADER_MAPPING, HEADER_PROBLEM, HEADER_RUN, HEADER_SOURCE
from schemas.field_reading import FieldReading, decode_mapping

PUSHED = "push"
"""Kind and name of a record whose producer set no headers: somebody pushed it."""

Headers = Sequence[tuple[str, bytes | None]]

READ_HEADERS = frozenset((HEADER_SOURCE, HEADER_KIND, HEADER_RUN, HEADER_MAPPING, HEADER_PROBLEM))
"""The others say nothing of how to read a record."""


class BadMapping(ValueError):
    """The mapping header is no JSON object of fields, or names a field that the dataset does not have."""


HeaderValues = tuple[bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]
"""The fields of SourceHeaders as a plain tuple: four times quicker to make, and one is made per record."""


class SourceHeaders(NamedTuple):
    """The headers that say how to read a record, as they came; few distinct ones exist, so they are cached by value."""

    name: bytes | None
    kind: bytes | None
    run: bytes | None
    mapping: bytes | None
    problem: bytes | None = None
    """Why the producer could not read the record: `reason_code` or `reason_code;message`."""


def source_headers(headers: Headers | None) -> HeaderValues:
    """Pick ours out of a record's headers; of repeated ones the last counts, as in HTTP libraries' dictionaries."""
    if not headers:
        return _NO_HEADERS
    get = dict(headers).get
    return get(HEADER_SOURCE), get(HEADER_KIND), get(HEADER_RUN), get(HEADER_MAPPING), get(HEADER_PROBLEM)


LONGEST_NAME = 1000
"""Bytes of a source's name that count."""

MAX_MAPPING_BYTES = 65_536
"""A longer mapping would not fit beside the payload, and is none of ours: what has one is not held, and the beginning
that a failure keeps cannot be read, so that nothing of the record is taken for harmless.
"""

_KEPT = (HEADER_SOURCE, HEADER_KIND, HEADER_RUN, HEADER_MAPPING)

_NO_HEADERS: HeaderValues = (None, None, None, None, None)


def header_text(value: bytes | None) -> str | None:
    """A header as text that every store can hold: undecodable bytes and NUL become U+FFFD; empty is None."""
    if not value:
        return None
    return value[:LONGEST_NAME].decode("utf-8", "replace").replace("\x00", "\ufffd")


def kept_headers(headers: SourceHeaders) -> dict[str, str]:
    """The headers that a failure keeps with its payload, by name: how to read it, and what of it is personal. Pure."""
    mapping = (headers.mapping or b"")[:MAX_MAPPING_BYTES].decode("utf-8", "replace")
    texts = (*map(header_text, (headers.name, headers.kind, headers.run)), mapping)
    return {name: text for name, text in zip(_KEPT, texts, strict=True) if text}


def parse_mapping(value: bytes | None, fields: Iterable[str]) -> dict[str, FieldReading]:
    """The reading of each field that a header asks for, empty where there is none. Raises BadMapping."""
    if not value:
        return {}
    try:
        mapping = decode_mapping(value)
    except HOSTILE as error:
        raise BadMapping(f"the mapping header is no JSON object of field to column or reading: {error}") from None
    known = set(fields)
    strangers = sorted(field for field in mapping if field not in known)
    if strangers:
        raise BadMapping(f"the mapping header names {strangers[0][:80]!r}, which is no field of the dataset")
    return mapping
