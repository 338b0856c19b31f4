"""The raw record behind a failure, as it was published: from its raw topic, else from Postgres."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from rehearsals.file import REASON as REHEARSAL
from runtime.kafka.clients import MAX_PAYLOAD_BYTES
from runtime.kafka.lookup import Coordinates, RawLookup, RawMessage
from schemas.events import HEADER_CONTENT_TYPE, HEADER_KIND, HEADER_PROBLEM, HEADER_RUN, HEADER_SOURCE
from schemas.source_kinds import first_kind_in
from services.failures.listing import Failure
from services.renormalizing import Headers, RawRecord
from stores.tables import raw_api_data, raw_csv_data

NORMALIZER_STAGE = "normalizer"
CLOCK_SLACK_MS = 60_000
"""Failed times come from other clocks than the broker's."""

Landed = tuple[bytes | None, str]
"""Payload and kind of source."""


async def find_raw_records(
    connection: AsyncConnection, lookup: RawLookup, failures: Sequence[Failure]
) -> dict[int, RawRecord]:
    """Raw records by failure id, under the failures' coordinates; without those that are nowhere any more.

    Only the topic has all headers; Postgres keeps those about the source, with the mapping. A timestamp that is gone is
    that of the failure. Raises DeliveryFailed.
    """
    if not failures:
        return {}
    raw = await asyncio.to_thread(lookup.read, [_coordinates(failure) for failure in failures])
    found: dict[int, RawRecord] = {}
    missing = []
    for failure in failures:
        message = raw.get(_coordinates(failure))
        if message is not None and _is_that(message, failure):
            found[failure["id"]] = RawRecord(
                *_coordinates(failure), message.timestamp, message.key, message.value, message.headers
            )
        else:
            missing.append(failure)
    landed = await _landed(connection, missing) if missing else {}
    for failure in missing:
        if record := kept_record(failure, landed.get(_coordinates(failure))):
            found[failure["id"]] = record
    return found


def to_send(failure: Failure, record: RawRecord) -> RawRecord:
    """The raw record as it is sent again: with the edited payload if there is one. Pure."""
    if failure["edited_payload"] is not None:
        return replace(record, value=failure["edited_payload"], headers=json_headers(record.headers))
    if failure["reason"] == REHEARSAL:  # what a rehearsal marked as unreadable never was
        return replace(record, headers=json_headers(record.headers))
    return record


def json_headers(headers: Headers) -> Headers:
    """The headers of a record whose value has been replaced by JSON: it is readable now. Pure."""
    kept = [(name, value) for name, value in headers if name not in (HEADER_PROBLEM, HEADER_CONTENT_TYPE)]
    return (*kept, (HEADER_CONTENT_TYPE, b"application/json"))


def kept_headers(failure: Failure) -> Headers:
    """The headers that Postgres keeps of a failure that was held or edited, or has a mapping; else `()`. Pure."""
    return tuple((name, value.encode()) for name, value in (failure["raw_headers"] or {}).items())


def _is_that(message: RawMessage, failure: Failure) -> bool:
    # A topic that was deleted and made again has other records at the same coordinates.
    if message.timestamp > failure["failed_at"].timestamp() * 1000 + CLOCK_SLACK_MS:
        return False
    if failure["stage"] != NORMALIZER_STAGE:
        return True
    kept: bytes | None = failure["payload"]
    return message.value == kept or (kept is not None and (message.value or b"")[: len(kept)] == kept)


async def _landed(connection: AsyncConnection, failures: Sequence[Failure]) -> dict[Coordinates, Landed]:
    wanted = [_coordinates(failure) for failure in failures]
    found: dict[Coordinates, Landed] = {}
    for table in (raw_api_data, raw_csv_data):
        kind = first_kind_in(table.name)
        columns = (table.c.topic, table.c.partition, table.c.offset)
        rows = await connection.execute(select(*columns, table.c.payload).where(tuple_(*columns).in_(wanted)))
        found |= {(topic, partition, offset): (payload, kind) for topic, partition, offset, payload in rows}
    return found


def kept_record(failure: Failure, landed: Landed | None = None) -> RawRecord | None:
    """The raw record as Postgres keeps it, with the time of the failure; None if only its beginning is kept. Pure."""
    payload: bytes | None = failure["payload"]
    kind = None
    if landed is not None:
        payload, kind = landed
    elif payload is not None and len(payload) >= MAX_PAYLOAD_BYTES:
        return None  # It is the beginning of a larger value.
    # Where a sink could not read the raw record, the payload is its normal form, which normalizes to itself.
    about = {HEADER_SOURCE: failure["source_name"], HEADER_KIND: kind, HEADER_RUN: failure["run_id"]}
    headers = kept_headers(failure) or tuple((name, value.encode()) for name, value in about.items() if value)
    key = failure["key"].encode() if failure["key"] is not None else None
    failed_at = round(failure["failed_at"].timestamp() * 1000)
    return RawRecord(*_coordinates(failure), failed_at, key, payload, headers)


def _coordinates(failure: Failure) -> Coordinates:
    return failure["topic"], failure["partition"], failure["offset"]
