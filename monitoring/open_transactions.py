"""The partitions that an open transaction holds, and since when.

Records behind the first one of an open transaction are confirmed to whoever wrote them, and nobody who reads committed
gets them before that transaction ends. The broker aborts one whose producer is gone after its `transaction.timeout.ms`.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runtime.kafka.clients import connection_config
from runtime.kafka.topic_admin import Place, list_offsets
from runtime.settings import Settings

LOOK_SECONDS = 2.0
"""For reading when the transactions began. What has not come by then is left unknown."""


@dataclass(frozen=True)
class OpenTransaction:
    """The transaction that holds a partition. Half-open: offsets in [begin, end) are written and cannot be read yet."""

    begin: int
    """The last stable offset: the first record of the earliest transaction that is open."""
    end: int
    """The high watermark."""
    since: float | None
    """The arrival of that record, in seconds since the epoch; by the broker's clock on raw topics. None: not known."""

    def seconds(self, now: float) -> float | None:
        """For how long it has been open; None if that is not known."""
        return None if self.since is None else max(0.0, round(now - self.since, 1))


def open_transactions(
    settings: Settings, admin: AdminClient, places: Collection[Place]
) -> dict[Place, OpenTransaction]:
    """The open transaction of each of these partitions that is held now. Blocking. Raises KafkaException.

    Costs two look-ups of offsets, and a read of one record of each partition that is held.
    """
    wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
    # In this order, so that records which come in between are not taken for held ones.
    written = list_offsets(admin, wanted, IsolationLevel.READ_UNCOMMITTED)
    stable = list_offsets(admin, wanted)
    held = {
        (place.topic, place.partition): (stable[place], end) for place, end in written.items() if stable[place] < end
    }
    begun = _times(settings, {place: begin for place, (begin, _) in held.items()}) if held else {}
    return {place: OpenTransaction(begin, end, begun.get(place)) for place, (begin, end) in held.items()}


def _times(settings: Settings, begins: Mapping[Place, int]) -> dict[Place, float]:
    consumer = Consumer(
        {
            **connection_config(settings),
            "group.id": settings.named("open-transactions"),
            # The one reader of ours that looks at what is not committed: at its timestamp only.
            "isolation.level": "read_uncommitted",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 1,
            "fetch.message.max.bytes": 1,
            "fetch.wait.max.ms": 10,
        }
    )
    found: dict[Place, float] = {}
    deadline = time.monotonic() + LOOK_SECONDS
    try:
        consumer.assign([TopicPartition(*place, begin) for place, begin in begins.items()])
        while len(found) < len(begins) and (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None or message.error() is not None:
                continue
            found.setdefault((str(message.topic()), message.partition() or 0), message.timestamp()[1] / 1000)
    finally:
        consumer.close()
    return found
