"""Pathway: a table over a topic of bytes, a function for each record, and a topic of bytes."""

import os

import pathway as pw

from benchmarks.customers import Raw
from benchmarks.peers.programs.rules import CLEAN, GROUP, PRODUCER, RAW, SERVERS, clean


def main() -> None:
    consumer = {"bootstrap.servers": SERVERS, "group.id": GROUP, "auto.offset.reset": "earliest"}
    raw = pw.io.kafka.read(consumer, topic=RAW, format="raw", with_metadata=True, autocommit_duration_ms=100)

    @pw.udf(deterministic=True)
    def normalize(key: bytes, value: bytes, place: pw.Json) -> bytes:
        found = place.as_dict()
        time = found.get("timestamp_millis") or 0
        return clean(Raw(RAW, found["partition"], found["offset"], time, key, value, [])).value

    out = raw.select(key=raw.key, data=normalize(raw.key, raw.data, raw._metadata))  # noqa: SLF001 (so it is called)
    producer = {"bootstrap.servers": SERVERS} | {name: str(value) for name, value in PRODUCER.items()}
    pw.io.kafka.write(out, producer, CLEAN, format="raw", key=out.key, value=out.data)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=None)


if __name__ == "__main__":
    os.environ.setdefault("PATHWAY_THREADS", "1")
    main()
