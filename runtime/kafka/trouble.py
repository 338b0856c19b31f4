"""The trouble that a process has with Kafka, logged once as it begins and once as it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from confluent_kafka import KafkaException

from runtime.kafka.clients import reason

log = structlog.get_logger()


class KafkaTrouble:
    """`problem` is the reason of the latest try, None if Kafka answered it."""

    def __init__(self) -> None:
        self.problem: str | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Try something in here: a KafkaException is noted and goes no further."""
        problem = None
        try:
            yield
        except KafkaException as error:
            problem = reason(error)
        if problem and not self.problem:
            log.warning("kafka_lost", problem=problem)
        elif self.problem and not problem:
            log.info("kafka_back")
        self.problem = problem
