"""The least that can be done with confluent-kafka: consume, normalize, produce, flush, commit."""

from typing import Any

from confluent_kafka import Consumer, Message, Producer

from benchmarks.customers import Raw
from benchmarks.peers.programs.rules import CLEAN, GROUP, PRODUCER, RAW, SERVERS, clean


def main() -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": SERVERS,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": SERVERS, **PRODUCER})
    consumer.subscribe([RAW])
    errors: list[Any] = []

    def on_delivery(error: Any, _: Message) -> None:
        if error is not None:
            errors.append(error)

    while True:
        messages = consumer.consume(5000, timeout=0.1)
        for m in messages:
            outcome = clean(Raw(RAW, m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers()))
            producer.produce(CLEAN, outcome.value, outcome.key, m.partition(), on_delivery)
        producer.flush()
        if errors:
            raise SystemExit(f"not delivered: {errors[0]}")
        if messages:
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main()
