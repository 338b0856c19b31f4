"""Batches of records as a client in another language may send them."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import TopicPartition

from runtime.kafka.clients import open_aiokafka
from runtime.settings import Settings
from tests.waiting import eventually_async


class Record(NamedTuple):
    """A record whose headers may have names that are no text. `timestamp` in ms since the epoch, None: now."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp: int | None = None


class _Name(str):
    """Stands for any bytes where aiokafka wants text."""

    def __new__(cls, name: bytes) -> "_Name":
        made = super().__new__(cls)
        made.name = name
        return made

    name: bytes

    def encode(self, *_: object, **__: object) -> bytes:
        return self.name


def batch(records: Sequence[Record], compression: int = 0) -> bytes:
    """One batch of them, with the numbers 0, 1, … as offsets. `compression`: 0 to 4, as in Kafka's protocol."""
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 2**30)
    for number, record in enumerate(records):
        timestamp = round(time.time() * 1000) if record.timestamp is None else record.timestamp
        builder.append(number, timestamp, record.key, record.value, [(_Name(name), of) for name, of in record.headers])
    return bytes(builder.build())


async def send_batch(settings: Settings, topic: str, data: bytes, partition: int = 0) -> int:
    """Send a batch as it is, confirmed; returns the offset of its first record. `topic`: physical."""
    client: Any = await open_aiokafka(settings)
    place = TopicPartition(topic, partition)
    try:
        await client.set_topics([topic])

        async def offset() -> list[int]:
            await client.force_metadata_update()
            node = client.cluster.leader_for_partition(place)
            answer = await client.send(node, ProduceRequest(None, -1, 30_000, [(topic, [(partition, data)])]))
            (_, ((_, error, first, *_),)) = answer.topics[0]
            return [] if error else [first]

        return (await eventually_async(offset, what="the leader of the partition has written it"))[0]
    finally:
        await client.close()
