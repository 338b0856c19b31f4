"""Records that a broker refuses while it takes over a partition are written in order, before those after them."""

import asyncio
import time

from confluent_kafka import KafkaError, Message, Producer

from runtime.kafka.clients import producer_config
from runtime.settings import Settings
from tests.integration.publish_servers import consume_all
from tests.servers.late_leader import late_leader


async def test_records_that_a_late_leader_refuses_at_first_are_written_before_those_after_them(
    pipeline_settings: Settings,
) -> None:
    reports = list[tuple[KafkaError | None, int | None]]()

    def report(error: KafkaError | None, message: Message) -> None:
        reports.append((error, message.offset()))

    def produce(broker: str) -> None:
        behind = pipeline_settings.model_copy(update={"kafka_bootstrap_servers": broker})
        producer, topic = Producer(producer_config(behind)), pipeline_settings.named("records.raw")
        producer.produce(topic, b"", partition=1)  # with its id the producer sends at once
        assert producer.flush(60) == 0
        for number in range(10):
            producer.produce(topic, str(number), partition=0, on_delivery=report)
            time.sleep(0.02)  # a batch each
        assert producer.flush(60) == 0

    async with late_leader(pipeline_settings.kafka_bootstrap_servers) as broker:
        await asyncio.to_thread(produce, broker)
    assert reports == [(None, offset) for offset in range(10)]
    written = [message.value for message in consume_all(pipeline_settings, "records.raw") if message.partition == 0]
    assert written == [str(number).encode() for number in range(10)]
