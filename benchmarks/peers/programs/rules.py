"""The customers' rules for the Python peers: the normalizer's own code, record by record, as each of them calls it.

So every Python candidate does the same work with the same bytes as result, and what differs is what moves the records.
Read by interpreters that have none of our packages but msgspec, pydantic and confluent-kafka.
"""

import os
import sys

from benchmarks.customers import Raw
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer

SERVERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
RAW = os.environ["PEER_RAW"]
CLEAN = os.environ["PEER_CLEAN"]
GROUP = os.environ["PEER_GROUP"]
PARTITIONS = int(os.environ["PEER_PARTITIONS"])

PRODUCER = {"compression.type": "lz4", "linger.ms": 5, "acks": "all", "queue.buffering.max.kbytes": 65_536}
"""The same for every librdkafka producer here, ours included."""

_normalize = RecordNormalizer(dataset_named("customers")).normalize


def clean(record: Raw) -> Normalized:
    """The clean record. Ends the process for one that is refused: none of a benchmark's is."""
    outcome = _normalize(record, 0)
    if not isinstance(outcome, Normalized):
        sys.exit(f"refused: {outcome}")
    return outcome
