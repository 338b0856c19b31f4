"""One raw record in, one normalized record or one failure out. Pure: reads no clock, opens nothing, logs nothing.

Whatever a producer sends ends as one of the two. Only classes of error that hostile *input* can cause are turned into
failures; a TypeError or KeyError is a mistake of ours and stops the worker before anything is acknowledged.
"""

import json
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from runtime.kafka.clients import MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES
from schemas.dataset import KEY_SEPARATOR, Dataset
from schemas.errors import HOSTILE, InvalidRecord
from schemas.events import DELETED, CleanRecord, FailedRecord, Origin
from schemas.field_reading import with_plain_names
from schemas.plain_reading import Values
from schemas.reading_plan import ReadingPlan, read_fields, reading_plan
from schemas.source_headers import (
    READ_HEADERS,
    BadMapping,
    Headers,
    HeaderValues,
    SourceHeaders,
    header_text,
    kept_headers,
    source_headers,
)
from schemas.text import FRAMES, unmarked

STAGE = "normalizer"

MAX_UNKNOWN_NAMES = 50
"""Unknown fields reported per record; a record with ten thousand of them must not grow the clean topic."""

MAX_OUTPUT_BYTES = MAX_MESSAGE_BYTES - 65_536
"""The broker's limit, less room for a key, headers and the record's framing."""

MAX_KEY_BYTES = 1000
"""A failure keeps so much of a Kafka key: any key of ours is shorter, and an envelope must stay within the limit."""

LONGEST_REASON = 100
"""Characters of a producer's own reason code: failures are grouped by it, and it stands in an index."""

SHORTEST_FRAME = 5
"""Bytes of a schema's id with what is before it."""

MAX_SOURCES_CACHED = 1024
"""Each run brings headers of its own; older ones are forgotten all at once, which costs a microsecond per source."""

MAX_HEADERS_CACHED_BYTES = 16_384
"""The headers of a source that is remembered: any mapping of ours is shorter, and memory must have an end."""

_encode = msgspec.json.Encoder().encode

# Numbers with a point or an exponent stay text: exact, whatever their size, and their field judges them.
_decode = msgspec.json.Decoder(float_hook=str).decode

_JSON_NAMES: dict[type, str] = {
    list: "an array", str: "a string or a number", int: "a number", bool: "a boolean", type(None): "null",
}  # fmt: skip


class RawRecord(Protocol):
    """A consumed record; aiokafka's ConsumerRecord fulfils it. `timestamp` is in ms since the epoch."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Normalized(msgspec.Struct, gc=False):
    """A clean record, encoded, with its Kafka key."""

    key: bytes
    value: bytes
    unknown: tuple[str, ...]


class Rejected(msgspec.Struct, gc=False):
    """A failure, encoded, keyed like the original."""

    key: bytes | None
    value: bytes
    reason: str


class RecordNormalizer:
    """Normalizes the records of one dataset. Remembers how to read each source, nothing else."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        names = [field.name for field in dataset.fields]
        self._row = msgspec.defstruct("Row", [(name, Any) for name in names], gc=False)
        self._key = [names.index(name) for name in dataset.key]
        self._alike: Headers | None = None
        self._plan: ReadingPlan | None = None
        self._plans: dict[HeaderValues, ReadingPlan] = {}

    def normalize(self, record: RawRecord, now_ms: int) -> Normalized | Rejected:
        """Never raises for what a producer can send. `now_ms` dates a failure, in ms since the epoch."""
        try:
            plan, value = self._plan_of(record.headers), record.value
            if value is None:
                return self._delete(record, plan)
            if plan.plain is not None and (values := plan.plain.read(value)) is not None:
                return self._clean(record, plan, values, ())
            return self._clean(record, plan, *self._read(plan, decode_object(value)))
        except InvalidRecord as verdict:
            return self.reject(record, verdict, now_ms)

    def reject(self, record: RawRecord, verdict: InvalidRecord, now_ms: int) -> Rejected:
        """The failure of a record, for a reason that is in it or not."""
        headers = SourceHeaders(*source_headers(record.headers))
        failed = failed_record(self._dataset.name, record, headers, verdict, now_ms)
        return Rejected(kept_key(record), _encode(failed), verdict.reason)

    def _delete(self, record: RawRecord, plan: ReadingPlan) -> Normalized:
        """A record without a value deletes the one that its Kafka key names. Raises InvalidRecord for no such key."""
        key = self._key_to_delete(record.key)
        clean = CleanRecord(key, _origin(record), msgspec.Raw(DELETED), plan.source, plan.kind, plan.run)
        return Normalized(key.encode(), _encode(clean), ())

    def _key_to_delete(self, key: bytes | None) -> str:
        if not key:
            raise InvalidRecord("delete_without_key", "a record without a value deletes by its key, and has none")
        try:
            return self._dataset.normal_key(key.decode())
        except HOSTILE as error:
            raise InvalidRecord("delete_key_form", f"not a key of {self._dataset.name}: {str(error)[:200]}") from None

    def _plan_of(self, headers: Headers) -> ReadingPlan:
        # Most records have the headers of the one before but for the last, which is an id of their own.
        alike = headers[:-1] if headers and headers[-1][0] not in READ_HEADERS else headers
        if alike != self._alike or self._plan is None:
            values = source_headers(headers)
            self._plan = self._plans.get(values) or self._new_plan(SourceHeaders(*values))
            self._alike = alike
        return self._plan

    def _new_plan(self, headers: SourceHeaders) -> ReadingPlan:
        if headers.problem:  # never has a plan, so the hot path need not look
            reason, _, message = (header_text(headers.problem) or "").partition(";")
            raise InvalidRecord(
                reason[:LONGEST_REASON] or "unreadable", message or "the producer could not read this record"
            )
        try:
            plan = reading_plan(self._dataset, headers)
        except BadMapping as error:
            raise InvalidRecord("bad_mapping", str(error)) from None
        if sum([len(value or b"") for value in headers]) <= MAX_HEADERS_CACHED_BYTES:
            if len(self._plans) >= MAX_SOURCES_CACHED:
                self._plans.clear()
            self._plans[headers] = plan
        return plan

    def _read(self, plan: ReadingPlan, record: dict[str, Any]) -> tuple[Values, tuple[str, ...]]:
        unknown: tuple[str, ...] = ()
        if not plan.columns.issuperset(record):
            strangers = record.keys() - plan.columns
            if not "".join(strangers).isascii():  # maybe a known name with a mark in it
                record = with_plain_names(record)
                strangers = record.keys() - plan.columns
            unknown = _names(strangers)
        data, problems = read_fields(plan, record)
        if problems:
            message = "; ".join(f"{p.field}: {p.message}" for p in problems)
            raise InvalidRecord(problems[0].code, message, tuple(problems))
        return list(data.values()), unknown

    def _clean(self, record: RawRecord, plan: ReadingPlan, values: Values, unknown: tuple[str, ...]) -> Normalized:
        key = str(values[self._key[0]])
        if len(self._key) > 1:
            key = KEY_SEPARATOR.join([str(values[place]) for place in self._key])
        data: Any = self._row(*values)  # encoded where it stands, instead of as msgspec.Raw
        value = _encode(CleanRecord(key, _origin(record), data, plan.source, plan.kind, plan.run, unknown))
        if len(value) > MAX_OUTPUT_BYTES:
            raise InvalidRecord("too_large", f"{len(value)} bytes when normalized, at most {MAX_OUTPUT_BYTES} fit")
        return Normalized(key.encode(), value, unknown)


def failed_record(
    dataset: str, record: RawRecord, headers: SourceHeaders, verdict: InvalidRecord, now_ms: int
) -> FailedRecord:
    """The failure of a record, as it goes to the topic `failures`. Pure."""
    message, payload = verdict.message, record.value
    if payload is not None and len(payload) > MAX_PAYLOAD_BYTES:
        message = f"{message} (first {MAX_PAYLOAD_BYTES} of {len(payload)} bytes kept)"
        payload = payload[:MAX_PAYLOAD_BYTES]
    return FailedRecord(
        dataset=dataset,
        stage=STAGE,
        reason=verdict.reason,
        message=message,
        origin=_origin(record),
        failed_at=now_ms,
        key=header_text(kept_key(record)),
        payload=payload,
        problems=verdict.problems,
        source=header_text(headers.name),
        kind=header_text(headers.kind),
        run=header_text(headers.run),
        headers=kept_headers(headers) if headers.mapping else None,
    )


def kept_key(record: RawRecord) -> bytes | None:
    """The record's key as its failure keeps it, cut to MAX_KEY_BYTES. Pure."""
    return record.key[:MAX_KEY_BYTES] if record.key is not None else None


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name[:100].replace("\x00", "\ufffd") for name in sorted(names)[:MAX_UNKNOWN_NAMES])


def _origin(record: RawRecord) -> Origin:
    return Origin(record.topic, record.partition, record.offset, record.timestamp)


def decode_object(value: bytes) -> dict[str, Any]:
    """The object in these bytes. Pure. Raises InvalidRecord: `not_json`, `not_an_object` or `duplicate_key`.

    JSON leaves open which of two values of one key holds (RFC 8259, section 4), so none does.
    """
    try:
        decoded = _decode(value)
    except HOSTILE as error:
        if (text := unmarked(value)) != value:
            return decode_object(text)
        why = str(error)[:200]
        if value.startswith(FRAMES) and len(value) > SHORTEST_FRAME:
            why = "it may be Avro or Protobuf with a schema's id before it; have its producer write JSON"
        raise InvalidRecord("not_json", f"the value is not JSON: {why}") from None
    if type(decoded) is not dict:
        raise InvalidRecord("not_an_object", f"the value is JSON, but {_JSON_NAMES[type(decoded)]} and no object")
    colons = value.count(b":")
    # As many colons as keys, as in most records: nothing to look for.
    if colons != len(decoded):
        try:
            if b"\\u003" in value or colons != _colons(decoded):
                json.loads(value, object_pairs_hook=_without_duplicates)
        except RecursionError as error:
            raise InvalidRecord("not_json", f"the value is nested too deeply: {error}") from None
    return decoded


def _colons(value: dict[str, Any] | list[Any]) -> int:
    """The number of colons that this has as JSON, if none is escaped; too few where a key occurred twice."""
    number, items = 0, value
    texts: list[str] = []
    if type(value) is dict:
        number, items = len(value), list(value.values())
        texts = list(value)
    for item in items:
        if type(item) is str:
            texts.append(item)
        elif isinstance(item, dict | list):
            number += _colons(item)
    return number + "".join(texts).count(":")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidRecord("duplicate_key", f"the key {key[:100]!r} occurs twice in one object")
        found[key] = value
    return found
