"""Rejections by sinks, as they go to the `failures` topic: on the raw record's partition, keyed like it.

Sinks themselves see records in normal form only, so a rejection is given the bytes that were published.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import structlog

from runtime.errors import Backpressure, DeliveryFailed
from runtime.kafka.clients import MAX_PAYLOAD_BYTES
from runtime.kafka.confirmed import Outgoing
from runtime.kafka.lookup import RawLookup, RawMessage
from runtime.settings import Settings
from schemas.events import FailedRecord
from schemas.source_headers import SourceHeaders, kept_headers, source_headers
from schemas.topics import FAILURES_TOPIC
from stores.epochs import real_partition

NO_PARTITION = -1
"""In the origin of a failure of a row that the API has written; its version stands in the offset's place."""

GONE = "its original is in the topic no more"
KEPT = "this is its normal form"

log = structlog.get_logger()

_encode = msgspec.json.Encoder().encode


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def outgoing_failure(failed: FailedRecord, settings: Settings) -> Outgoing:
    """The message that reports this failure. Pure."""
    key = failed.key.encode() if failed.key is not None else None
    return Outgoing(settings.named(FAILURES_TOPIC), real_partition(failed.origin.partition), key, _encode(failed))


class RawPayloads:
    """Reads originals back from the raw topics. Connects at the first rejection."""

    def __init__(self, settings: Settings) -> None:
        self._lookup = RawLookup(settings)

    async def attach(self, failures: Sequence[FailedRecord]) -> list[FailedRecord]:
        """The same failures with their original bytes, or a word in the message where those are not to be had.

        Takes half a minute at most. Raises Backpressure when Kafka does not answer at all: nothing could be published
        or committed then either.
        """
        if not failures:
            return []
        places = [failed.origin.coordinates for failed in failures]
        try:
            found, problem = await asyncio.to_thread(self._lookup.read_some, places)
        except DeliveryFailed as error:
            raise Backpressure("Kafka", str(error)) from error
        if problem is not None:
            log.warning("originals_not_read", reason=problem, failures=len(failures), found=len(found))
        why = GONE if problem is None else f"its original could not be read ({problem})"
        return [_with_payload(failed, found.get(place), why) for failed, place in zip(failures, places, strict=True)]

    async def close(self) -> None:
        await asyncio.to_thread(self._lookup.close)


def _with_payload(failed: FailedRecord, message: RawMessage | None, why_not: str) -> FailedRecord:
    # A topic that was deleted and created again has another record at the same coordinates.
    if message is None or message.timestamp != failed.origin.timestamp:
        why = why_not if message is None else GONE
        return msgspec.structs.replace(failed, message=f"{failed.message}; {why}, {KEPT}")
    headers = SourceHeaders(*source_headers(message.headers))
    if headers.mapping:
        failed = msgspec.structs.replace(failed, headers=kept_headers(headers))
    payload = message.value
    if payload is not None and len(payload) > MAX_PAYLOAD_BYTES:
        kept = f" (first {MAX_PAYLOAD_BYTES} of {len(payload)} bytes kept)"
        return msgspec.structs.replace(failed, payload=payload[:MAX_PAYLOAD_BYTES], message=failed.message + kept)
    return msgspec.structs.replace(failed, payload=payload)
