"""Quix Streams: a StreamingDataFrame over bytes, at least once, its producer as ours."""

import os
from typing import Any

from quixstreams import Application, message_context

from benchmarks.customers import Raw
from benchmarks.peers.programs.rules import CLEAN, GROUP, PRODUCER, RAW, SERVERS, clean


def normalize(value: bytes, key: bytes, timestamp: int, headers: Any) -> bytes:
    """The record's key is in normal form already, and stays."""
    place = message_context()
    outcome = clean(Raw(RAW, place.partition, place.offset, timestamp, key, value, headers))
    return outcome.value


def main() -> None:
    app = Application(
        broker_address=SERVERS,
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_every=0,
        commit_interval=5.0,
        producer_extra_config=PRODUCER,
        state_dir=os.environ["PEER_FOLDER"],
        loglevel="WARNING",
    )
    raw = app.topic(RAW, key_deserializer="bytes", value_deserializer="bytes")
    out = app.topic(CLEAN, key_serializer="bytes", value_serializer="bytes")
    app.dataframe(raw).apply(normalize, metadata=True).to_topic(out)
    app.run()


if __name__ == "__main__":
    main()
