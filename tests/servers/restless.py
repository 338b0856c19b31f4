"""A broker that stalls: its controller fences it again and again, as one that comes too late with its heartbeats."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_stack.kafka import Kafka
from local_stack.servers import RunningServers

FENCED_EVERY_SECONDS = 2.1

SESSION = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": f"{FENCED_EVERY_SECONDS * 1000:.0f}"}
"""A session that ends before the next heartbeat: for moments the broker leads no partition and coordinates no group."""


@contextmanager
def restless(kafka: RunningServers) -> Iterator[None]:
    """Start the one broker again as such a one, and in the end as it was."""
    usual = Kafka.properties
    kafka.stop("kafka")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kafka, "properties", lambda broker: usual(broker) | SESSION)
            kafka.start("kafka")
            yield
            kafka.stop("kafka")
    finally:
        kafka.start("kafka")
