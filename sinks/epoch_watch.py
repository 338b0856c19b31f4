"""Notices that a raw topic was deleted and created again, before its records are taken for repeats of earlier ones."""

import asyncio
from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaException

from runtime.errors import Backpressure, DeliveryFailed
from runtime.kafka.clients import reason
from runtime.kafka.lookup import RawLookup
from runtime.settings import Settings
from schemas.events import Origin
from stores.epochs import Epoch, archived, raw_topics, refresh_epochs
from stores.postgres_connection import Connection

STORE = "Kafka"


class EpochWatch:
    """Remembers how far each raw partition has come. Costs a comparison per record until something is odd."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = raw_topics(settings)
        self._lookup = RawLookup(settings)
        self._latest: dict[tuple[str, int], tuple[int, int]] = {}
        self._epochs: dict[str, list[Epoch]] = {}
        self._of_now: set[Origin] = set()
        """Records in hand that are older than their topic is, and lie in it all the same."""

    async def check(self, connection: Connection, origins: Sequence[Origin]) -> bool:
        """True if records of an ended epoch may be among these: then `rebased` gives the coordinates to count under.

        Asks the broker when a partition is new here, or counts from a lower offset at a later time: a redelivery has
        a lower offset and an earlier time. Begins the new epoch if there is one. Raises Backpressure for Kafka.
        """
        if self._is_odd(origins):
            try:
                self._epochs = await refresh_epochs(connection, self._settings)
            except KafkaException as error:
                self._latest.clear()
                raise Backpressure(STORE, reason(error)) from error
        if not any(len(epochs) > 1 for epochs in self._epochs.values()):
            return False
        self._of_now = await self._found([origin for origin in origins if self._seems_ended(origin)])
        return True

    async def close(self) -> None:
        """Close what was opened to look at raw records."""
        await asyncio.to_thread(self._lookup.close)

    def rebased(self, origin: Origin) -> Origin:
        """The coordinates to count a record under: its own, or archived ones if it is of an ended epoch. Idempotent."""
        if not self._seems_ended(origin) or origin in self._of_now:
            return origin
        began = (epoch.number for epoch in self._epochs[origin.topic] if epoch.began_at <= origin.timestamp)
        return archived(origin, max(began, default=0))

    def _seems_ended(self, origin: Origin) -> bool:
        epochs = self._epochs.get(origin.topic, ())
        return len(epochs) > 1 and origin.timestamp < epochs[-1].began_at

    async def _found(self, origins: Sequence[Origin]) -> set[Origin]:
        """Those of these records that the topic has as it is now. Their times are a producer's, not the broker's: so it
        is with a topic that somebody has created without `headrace setup`.
        """
        if not origins:
            return set()
        try:
            found = await asyncio.to_thread(self._lookup.read, [origin.coordinates for origin in origins])
        except DeliveryFailed as error:
            raise Backpressure(STORE, str(error)) from error
        return {
            origin
            for origin in origins
            if (there := found.get(origin.coordinates)) is not None and there.timestamp == origin.timestamp
        }

    def _is_odd(self, origins: Iterable[Origin]) -> bool:
        odd, latest = False, self._latest
        for origin in origins:
            place = (origin.topic, origin.partition)
            known = latest.get(place)
            if known is None:
                odd = odd or origin.topic in self._topics
            elif origin.offset <= known[0]:
                if origin.timestamp <= known[1]:
                    continue
                odd = True
            latest[place] = (origin.offset, origin.timestamp)
        return odd
