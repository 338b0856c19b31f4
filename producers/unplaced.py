"""Where the records lie of which Kafka has confirmed the write and not said the place."""

from collections.abc import Collection, Iterator
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runtime.kafka_clients import MAX_MESSAGE_BYTES, QUIET
from runtime.settings import Settings
from schemas.events import HEADER_RUN

ANSWER_SECONDS = 30.0
BATCH_RECORDS = 10_000


def places_of_run(
    settings: Settings, topic: str, partitions: Collection[int], run_id: str, since_ms: int
) -> Iterator[tuple[int, int]]:
    """Partition and offset of every record of the run, by its header. Blocking: reads what was written since then.

    A write that is sent again, and that the broker knows, may be confirmed without its offset (librdkafka treats
    DUPLICATE_SEQUENCE_NUMBER as success). Raises KafkaException.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "headrace-places",  # required, and not joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
            "log_level": QUIET,
        }
    )
    try:
        since = [TopicPartition(topic, partition, since_ms) for partition in partitions]
        starts = consumer.offsets_for_times(since, timeout=ANSWER_SECONDS)
        consumer.assign(starts)
        left = set(partitions)
        while left:
            messages = consumer.consume(1, ANSWER_SECONDS)
            if not messages:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing came for {ANSWER_SECONDS:g} s"))  # noqa: SLF001
            for message in messages + consumer.consume(BATCH_RECORDS, 0):
                partition = cast("int", message.partition())
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
                        raise KafkaException(error)
                    left.discard(partition)
                elif (HEADER_RUN, run_id.encode()) in (message.headers() or ()):
                    yield partition, cast("int", message.offset())
    finally:
        consumer.close()
