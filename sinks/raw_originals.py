"""Gives a rejection by a store the bytes that were published: sinks themselves see records in normal form only."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from runtime.errors import Backpressure, DeliveryFailed
from runtime.kafka.clients import MAX_PAYLOAD_BYTES
from runtime.kafka.lookup import RawLookup, RawMessage
from runtime.settings import Settings
from schemas.events import FailedRecord

log = structlog.get_logger()

STORE = "Kafka"

GONE = "its original is in the topic no more"
KEPT = "this is its normal form"


class RawOriginals:
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
        places = [_place(failed) for failed in failures]
        try:
            found, problem = await asyncio.to_thread(self._lookup.read_some, places)
        except DeliveryFailed as error:
            raise Backpressure(STORE, str(error)) from error
        if problem is not None:
            log.warning("originals_not_read", reason=problem, failures=len(failures), found=len(found))
        why = GONE if problem is None else f"its original could not be read ({problem})"
        return [_with_original(failed, found.get(place), why) for failed, place in zip(failures, places, strict=True)]

    async def close(self) -> None:
        """Close the consumer, if there is one."""
        await asyncio.to_thread(self._lookup.close)


def _with_original(failed: FailedRecord, message: RawMessage | None, why_not: str) -> FailedRecord:
    # A topic that was deleted and created again has another record at the same coordinates.
    if message is None or message.timestamp != failed.origin.timestamp:
        why = why_not if message is None else GONE
        return msgspec.structs.replace(failed, message=f"{failed.message}; {why}, {KEPT}")
    payload = message.value
    if payload is not None and len(payload) > MAX_PAYLOAD_BYTES:
        kept = f" (first {MAX_PAYLOAD_BYTES} of {len(payload)} bytes kept)"
        return msgspec.structs.replace(failed, payload=payload[:MAX_PAYLOAD_BYTES], message=failed.message + kept)
    return msgspec.structs.replace(failed, payload=payload)


def _place(failed: FailedRecord) -> tuple[str, int, int]:
    return failed.origin.topic, failed.origin.partition, failed.origin.offset
