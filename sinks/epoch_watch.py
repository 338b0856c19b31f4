"""Notices that a raw topic was deleted and created again, before its records are taken for repeats of earlier ones."""

from collections.abc import Iterable

from confluent_kafka import KafkaException

from runtime.errors import Backpressure
from runtime.kafka.clients import reason
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
        self._latest: dict[tuple[str, int], tuple[int, int]] = {}
        self._epochs: dict[str, list[Epoch]] = {}

    async def check(self, connection: Connection, origins: Iterable[Origin]) -> bool:
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
        return any(len(epochs) > 1 for epochs in self._epochs.values())

    def rebased(self, origin: Origin) -> Origin:
        """The coordinates to count a record under: its own, or archived ones if it is of an ended epoch. Idempotent."""
        epochs = self._epochs.get(origin.topic, ())
        if len(epochs) < 2 or origin.timestamp >= epochs[-1].began_at:
            return origin
        return archived(origin, max(epoch.number for epoch in epochs if epoch.began_at <= origin.timestamp))

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
