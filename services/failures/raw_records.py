"""The record behind a failure, as it was published: from its raw topic, else from Postgres."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.kafka.clients import MAX_PAYLOAD_BYTES
from runtime.kafka.lookup import Coordinates, RawLookup, RawMessage
from schemas.events import HEADER_CONTENT_TYPE, HEADER_KIND, HEADER_PROBLEM, HEADER_RUN, HEADER_SOURCE
from stores.tables import raw_api_data, raw_csv_data

NORMALIZER_STAGE = "normalizer"
CLOCK_SLACK_MS = 60_000
"""Failed times come from other clocks than the broker's."""

Headers = tuple[tuple[str, bytes | None], ...]
Failure = Mapping[str, Any]

Landed = tuple[bytes | None, str]
"""Payload and kind of source."""


@dataclass(frozen=True)
class Original:
    """A raw record. `found_in`: topic, landing or failure; only the topic has all headers, the mapping among them.

    `timestamp` is the broker's in ms since the epoch; where that is gone, when the record failed.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    found_in: str


async def find_originals(
    connection: AsyncConnection, lookup: RawLookup, failures: Sequence[Failure]
) -> dict[int, Original]:
    """By failure id. A failure whose original bytes are nowhere any more is left out. Raises DeliveryFailed."""
    raw = await asyncio.to_thread(lookup.read, [_coordinates(failure) for failure in failures])
    found: dict[int, Original] = {}
    missing = []
    for failure in failures:
        message = raw.get(_coordinates(failure))
        if message is not None and _is_that(message, failure):
            found[failure["id"]] = Original(message.key, message.value, message.headers, message.timestamp, "topic")
        else:
            missing.append(failure)
    if missing:
        landed = await _landed(connection, missing)
        for failure in missing:
            if original := _from_postgres(failure, landed.get(_coordinates(failure))):
                found[failure["id"]] = original
    return found


def _is_that(message: RawMessage, failure: Failure) -> bool:
    # A topic that was deleted and made anew has other records at the same coordinates.
    if message.timestamp > failure["failed_at"].timestamp() * 1000 + CLOCK_SLACK_MS:
        return False
    if failure["stage"] != NORMALIZER_STAGE:
        return True
    kept: bytes | None = failure["payload"]
    return message.value == kept or (kept is not None and (message.value or b"")[: len(kept)] == kept)


async def _landed(connection: AsyncConnection, failures: Sequence[Failure]) -> dict[Coordinates, Landed]:
    wanted = [_coordinates(failure) for failure in failures]
    found: dict[Coordinates, Landed] = {}
    for table, kind in ((raw_api_data, "api"), (raw_csv_data, "csv")):
        columns = (table.c.topic, table.c.partition, table.c.offset)
        rows = await connection.execute(select(*columns, table.c.payload).where(tuple_(*columns).in_(wanted)))
        found |= {(topic, partition, offset): (payload, kind) for topic, partition, offset, payload in rows}
    return found


def _from_postgres(failure: Failure, landed: Landed | None) -> Original | None:
    payload: bytes | None = failure["payload"]
    kind = None
    if landed is not None:
        payload, kind = landed
        where = "landing"
    elif payload is not None and len(payload) >= MAX_PAYLOAD_BYTES:
        return None  # It is the beginning of a larger value.
    else:
        where = (
            "failure"  # Where a sink could not read the original this is its normal form, which normalizes to itself.
        )
    given = {HEADER_SOURCE: failure["source_name"], HEADER_KIND: kind, HEADER_RUN: failure["run_id"]}
    # Of one that was held or edited they are kept, the mapping among them.
    given |= failure["raw_headers"] or {}
    headers = tuple((name, value.encode()) for name, value in given.items() if value)
    key = failure["key"].encode() if failure["key"] is not None else None
    return Original(key, payload, headers, round(failure["failed_at"].timestamp() * 1000), where)


def repaired(headers: Headers) -> Headers:
    """The headers of a record whose value has been replaced by JSON: it is readable now. Pure."""
    kept = [(name, value) for name, value in headers if name not in (HEADER_PROBLEM, HEADER_CONTENT_TYPE)]
    return (*kept, (HEADER_CONTENT_TYPE, b"application/json"))


def _coordinates(failure: Failure) -> Coordinates:
    return failure["topic"], failure["partition"], failure["offset"]
