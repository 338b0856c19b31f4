"""Bytewax: Kafka's operators, one worker, batches of 5,000; the producer as ours."""

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow

from benchmarks.customers import Raw
from benchmarks.peers.programs.rules import CLEAN, PRODUCER, RAW, SERVERS, clean


def normalize(m: KafkaSourceMessage[bytes | None, bytes | None]) -> KafkaSinkMessage[bytes | None, bytes | None]:
    outcome = clean(
        Raw(RAW, m.partition or 0, m.offset or 0, int((m.timestamp or (0, 0))[1]), m.key, m.value, m.headers)
    )
    return KafkaSinkMessage(outcome.key, outcome.value)


flow = Dataflow("normalize")
raw = kafka.input("raw", flow, brokers=[SERVERS], topics=[RAW], batch_size=5000)
kafka.output("clean", op.map("normalize", raw.oks, normalize), brokers=[SERVERS], topic=CLEAN, add_config=PRODUCER)
