"""Edits the payload that a replay sends; it is kept with the failure until then."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import func, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from producers.raw_records import LARGEST_VALUE_BYTES
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import HOSTILE
from schemas.events import HEADER_MAPPING
from schemas.field_reading import FieldReading, decode_mapping, plain_name, with_plain_names
from schemas.masking import MASK, masked_payload
from schemas.registry import dataset_named
from schemas.text import unmarked
from services.failures.actions import lock, not_actionable
from services.failures.listing import Failure, one
from services.failures.raw_records import find_raw_records, json_headers, to_send
from services.failures.settling import settled
from services.renormalizing import Headers, RawRecord, verdict_on
from stores.failure_states import ActionRefused, CannotEdit, StillInvalid, refuse_all
from stores.tables import failure_actions, ingest_failures

_decode = msgspec.json.Decoder(float_hook=str).decode


@dataclass(frozen=True)
class Edited:
    """An edit that has been kept. `valid` is False only if it was forced."""

    dataset: Dataset
    before: bytes | None
    after: bytes
    valid: bool
    mapping: bytes | None = None
    """The record's header: by it a member is read into a field of another name, which may be personal."""

    def masked(self) -> "Edited":
        """The same without personal data."""
        after = masked_payload(self.dataset, self.after, self.mapping) or b""
        return replace(self, before=masked_payload(self.dataset, self.before, self.mapping), after=after)


async def edit(
    settings: Settings,
    failure_id: int,
    who: str,
    *,
    values: Mapping[str, object] | None = None,
    payload: bytes | None = None,
    force: bool = False,
) -> Edited:
    """Keep another payload for the next replay: the whole of it, or values set in the one that failed.

    Raises StillInvalid (unless forced), CannotEdit, ActionRefused, UnknownFailure, DeliveryFailed.
    """
    async with settled(settings) as connection, RawLookup(settings) as lookup:
        failure = await one(connection, failure_id)
        _require_editable(failure)
        raw = (await find_raw_records(connection, lookup, [failure])).get(failure_id)
        if raw is None:
            raise ActionRefused(f"failure {failure_id}: the original record is nowhere any more")
        current, dataset = to_send(failure, raw), dataset_named(failure["dataset"])
        if MASK in (payload or b"").decode("utf-8", "replace"):
            raise CannotEdit(
                f"the payload has {MASK} where a value was masked; set single fields instead (`set`, --set)"
            )
        after = payload if payload is not None else with_fields(current.value, current.headers, values or {}, dataset)
        if len(after) > LARGEST_VALUE_BYTES:
            raise CannotEdit(
                f"the payload would have {len(after):,} bytes, and a record may have {LARGEST_VALUE_BYTES:,}; "
                "shorten it, or discard the failure"
            )
        edited = replace(raw, value=after, headers=json_headers(raw.headers))
        verdict = verdict_on(dataset, edited)
        if verdict.key is None and not force:
            raise StillInvalid(failure_id, verdict.reason or "invalid", verdict.message, verdict.problems)
        # By its code: the message may quote anything, and notes are shown as they are.
        note = None if verdict.key is not None else f"forced: {verdict.reason or 'invalid'}"
        await save(connection, failure_id, who, before=current.value, edited=edited, note=note)
    return Edited(dataset, current.value, after, verdict.key is not None, dict(current.headers).get(HEADER_MAPPING))


async def save(
    connection: AsyncConnection, failure_id: int, who: str, *, before: bytes | None, edited: RawRecord, note: str | None
) -> None:
    """Keep the edited payload, and the raw record's headers with it. Raises ActionRefused, UnknownFailure."""
    (failure,) = await lock(connection, [failure_id])
    _require_editable(failure)
    # The topic will not keep the headers for ever, and without the mapping the payload is not readable.
    headers = {name: value.decode("utf-8", "replace") for name, value in edited.headers if value is not None}
    changed = {"edited_payload": edited.value, "raw_headers": headers, "updated_at": func.now()}
    await connection.execute(update(ingest_failures).where(ingest_failures.c.id == failure_id).values(changed))
    action = {"failure_id": failure_id, "action": "edited", "who": who, "note": note}
    await connection.execute(insert(failure_actions).values(**action, before=before, after=edited.value))


def with_fields(payload: bytes | None, headers: Headers, values: Mapping[str, object], dataset: Dataset) -> bytes:
    """The payload with values set, all else as it is. A field is written to the column that the record's mapping names.

    Pure. Raises CannotEdit for a payload that is no JSON object, and for a name that is neither field nor column.
    """
    try:
        record = _decode(unmarked(payload or b""))
    except HOSTILE:
        record = None
    if not isinstance(record, dict):
        raise CannotEdit("the payload is no JSON object, so no field can be set; give all of it, with --file")
    record = with_plain_names(record)
    readings = _readings(headers)
    fields = [field.name for field in dataset.fields]
    for name, value in values.items():
        if name not in fields and name not in record:
            raise CannotEdit(f"{name!r} is no field of {dataset.name}; its fields are: {', '.join(fields)}")
        reading = readings.get(name, FieldReading())
        if reading.columns:
            raise CannotEdit(f"{name} is joined from {', '.join(reading.columns)}; set these")
        record[plain_name(reading.column or name)] = value
    try:
        return msgspec.json.encode(record)
    except HOSTILE as error:
        raise CannotEdit(f"the payload cannot be written as JSON: {error}") from None


def _readings(headers: Headers) -> dict[str, FieldReading]:
    try:
        return decode_mapping(dict(headers).get(HEADER_MAPPING) or b"{}")
    except HOSTILE:
        return {}


def _require_editable(failure: Failure) -> None:
    if failure["state"] != "held" and (reason := not_actionable(failure)):
        raise refuse_all({failure["id"]: reason})
