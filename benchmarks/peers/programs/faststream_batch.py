"""FastStream with confluent-kafka, in batches: offsets are committed once the broker has the batch's outputs."""

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage, KafkaPublishMessage

from benchmarks.customers import Raw
from benchmarks.peers.programs.rules import CLEAN, GROUP, RAW, SERVERS, clean

broker = KafkaBroker(SERVERS, compression_type="lz4", linger_ms=5, acks="all", logger=None)


@broker.subscriber(
    RAW,
    group_id=GROUP,
    auto_offset_reset="earliest",
    batch=True,
    max_records=5000,
    ack_policy=AckPolicy.NACK_ON_ERROR,
    isolation_level="read_committed",
)
async def normalize(_: Any, message: KafkaMessage) -> None:
    out = []
    for m in message.raw_message:
        record = Raw(RAW, m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers())
        outcome = clean(record)
        out.append(KafkaPublishMessage(outcome.value, key=outcome.key))
    await broker.publish_batch(*out, topic=CLEAN)


if __name__ == "__main__":
    asyncio.run(FastStream(broker, logger=None).run())
