"""Rejections by sinks, as they go to the `failures` topic: on the raw record's partition, keyed like it."""

import time

import msgspec

from runtime.kafka.confirmed import Outgoing
from runtime.settings import Settings
from schemas.events import FailedRecord
from schemas.topics import FAILURES_TOPIC
from stores.epochs import real_partition

NO_PARTITION = -1
"""In the origin of a failure of a row that the API has written; its version stands in the offset's place."""

_encode = msgspec.json.Encoder().encode


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def outgoing_failure(failed: FailedRecord, settings: Settings) -> Outgoing:
    """The message that reports this failure. Pure."""
    key = failed.key.encode() if failed.key is not None else None
    return Outgoing(settings.named(FAILURES_TOPIC), real_partition(failed.origin.partition), key, _encode(failed))
