"""Rejected records in `ingest_failures`: those that the normalizer and the other sinks report, and our own."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import structs

from runtime.fault_points import crash_here
from schemas.errors import FieldProblem
from schemas.events import FailedRecord, Origin
from sinks.failed_records import RawPayloads, now_ms
from sinks.postgres.arrivals import Arrival
from stores.postgres_connection import Connection

STAGE = "postgres"

_UNREAD = "; its original has not been read yet, this is its normal form"
"""Ends the message of a failure until the bytes that were published have been looked up, which waits for the commit."""

_COLUMNS: dict[str, tuple[str, Callable[[FailedRecord], Any]]] = {
    "dataset": ("text", lambda failed: failed.dataset),
    "source_name": ("text", lambda failed: failed.source),
    "run_id": ("text", lambda failed: failed.run),
    "key": ("text", lambda failed: failed.key),
    "stage": ("text", lambda failed: failed.stage),
    "reason": ("text", lambda failed: failed.reason),
    "message": ("text", lambda failed: failed.message),
    "problems": ("jsonb", lambda failed: [_texts(structs.asdict(problem)) for problem in failed.problems]),
    "payload": ("bytea", lambda failed: failed.payload),
    "topic": ("text", lambda failed: failed.origin.topic),
    "partition": ("int", lambda failed: failed.origin.partition),
    "offset": ("bigint", lambda failed: failed.origin.offset),
    "failed_at": ("timestamptz", lambda failed: datetime.fromtimestamp(failed.failed_at / 1000, UTC)),
    "state": ("text", lambda failed: "held" if failed.held else "open"),
    "raw_headers": ("jsonb", lambda failed: None if failed.headers is None else _texts(failed.headers)),
    "raw_timestamp": ("bigint", lambda failed: failed.origin.timestamp),
}
"""Of the table: the type of each, and the value that it gets of a failure."""

_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_VALUES = ", ".join(f'"{name}"::jsonb' if kind == "jsonb" else f'"{name}"' for name, (kind, _) in _COLUMNS.items())
_ARRAYS = ", ".join(f"${n}::{kind.replace('jsonb', 'text')}[]" for n, (kind, _) in enumerate(_COLUMNS.values(), 1))

_INSERT = f"""
    INSERT INTO ingest_failures ({_NAMES})
    SELECT {_VALUES} FROM unnest({_ARRAYS}) AS f ({_NAMES})
    ORDER BY "topic", "partition", "offset"
    ON CONFLICT (topic, "partition", "offset") DO UPDATE
        SET {", ".join(f"{name} = excluded.{name}" for name in ("state", "stage", "reason", "message", "problems"))},
            updated_at = now()
        WHERE ingest_failures.state IN ('held', 'released') AND excluded.state <> 'held'
    RETURNING topic, "partition", "offset" """  # noqa: S608 (column names of ours)

_FIND = f"""
    SELECT {_NAMES} FROM ingest_failures
    JOIN unnest($1::text[], $2::int[], $3::bigint[]) AS w ("topic", "partition", "offset")
        USING ("topic", "partition", "offset")
    WHERE stage = '{STAGE}' AND (state <> 'resolved' OR right(message, {len(_UNREAD)}) = '{_UNREAD}')"""  # noqa: S608

_KEEP_PAYLOAD = f"""
    UPDATE ingest_failures f SET message = w.message, payload = CASE WHEN w.is_read THEN w.payload ELSE f.payload END,
        raw_headers = coalesce(w.raw_headers::jsonb, f.raw_headers)
    FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::bytea[], $6::boolean[], $7::text[])
        AS w (topic, "partition", "offset", message, payload, is_read, raw_headers)
    WHERE (f.topic, f."partition", f."offset") = (w.topic, w."partition", w."offset")
        AND right(f.message, {len(_UNREAD)}) = '{_UNREAD}'"""  # noqa: S608


def failed_arrival(arrival: Arrival, reason: str, message: str) -> FailedRecord:
    """An arrival that Postgres does not take, in its normal form."""
    return FailedRecord(
        dataset=arrival.dataset.name,
        stage=STAGE,
        reason=reason,
        message=message,
        origin=arrival.origin,
        failed_at=now_ms(),
        key=arrival.key,
        payload=arrival.data,
        source=arrival.source,
        kind=arrival.kind,
        run=arrival.run,
    )


def unread(failed: FailedRecord) -> FailedRecord:
    """The failure as it is recorded until `with_raw_payloads` has read the bytes that were published. Pure."""
    return structs.replace(failed, message=failed.message + _UNREAD)


async def insert_failures(connection: Connection, failures: Sequence[FailedRecord]) -> list[FailedRecord]:
    """One row per failed raw record; one that is there stays as it is, unless it was held: now it has failed.

    Those that are news come back, in their order.
    """
    if not failures:
        return []
    columns = [[_value(kind, of(failed)) for failed in failures] for kind, of in _COLUMNS.values()]
    written = {tuple(row) for row in await connection.fetch(_INSERT, *columns)}
    return [failed for failed in failures if failed.origin.coordinates in written]


async def find_own_failures(
    connection: Connection, origins: Collection[Origin]
) -> tuple[list[FailedRecord], set[Origin]]:
    """The failures that this sink has recorded of these raw records, and the origins of those that are resolved.

    Of the resolved ones only those come whose originals are still to be read.
    """
    timestamps = {origin.coordinates: origin.timestamp for origin in origins}
    found, resolved = [], set()
    for row in await connection.fetch(_FIND, *map(list, zip(*timestamps, strict=True))):
        place = row["topic"], row["partition"], row["offset"]
        failed = FailedRecord(
            dataset=row["dataset"],
            stage=row["stage"],
            reason=row["reason"],
            message=row["message"],
            origin=Origin(*place, timestamps[place]),
            failed_at=round(row["failed_at"].timestamp() * 1000),
            key=row["key"],
            payload=row["payload"],
            problems=msgspec.json.decode(row["problems"], type=tuple[FieldProblem, ...]),
            source=row["source_name"],
            run=row["run_id"],
        )
        found.append(failed)
        if row["state"] == "resolved":
            resolved.add(failed.origin)
    return found, resolved


async def with_raw_payloads(
    connection: Connection, payloads: RawPayloads, failures: Sequence[FailedRecord]
) -> list[FailedRecord]:
    """The same failures, with the bytes that were published, which are recorded too. Idempotent.

    Not in a transaction: the look-up in Kafka takes up to half a minute. Raises Backpressure when Kafka is away.
    """
    normal_forms = [
        structs.replace(failed, message=failed.message.removesuffix(_UNREAD))
        for failed in failures
        if failed.message.endswith(_UNREAD)
    ]
    if not normal_forms:
        return list(failures)
    crash_here("failures_recorded")
    read = await payloads.attach(normal_forms)
    kind, headers_of = _COLUMNS["raw_headers"]
    await connection.execute(
        _KEEP_PAYLOAD,
        *map(list, zip(*(failed.origin.coordinates for failed in read), strict=True)),
        [_text(failed.message) for failed in read],
        [failed.payload for failed in read],
        [after.payload != before.payload for before, after in zip(normal_forms, read, strict=True)],
        [_value(kind, headers_of(failed)) for failed in read],
    )
    by_origin = {failed.origin: failed for failed in read}
    return [by_origin.get(failed.origin, failed) for failed in failures]


def _value(kind: str, value: Any) -> object:
    if kind == "jsonb":
        return None if value is None else msgspec.json.encode(value).decode()
    return _text(value) if kind == "text" else value


def _texts(values: Mapping[str, str]) -> dict[str, str | None]:
    return {name.replace("\x00", "\ufffd"): _text(value) for name, value in values.items()}


def _text(value: str | None) -> str | None:
    # A rejected record may hold anything, and Postgres no NUL.
    return None if value is None else value.replace("\x00", "\ufffd")
