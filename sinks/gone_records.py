"""Finds out whether retention has taken records from a topic before a sink had read them.

librdkafka goes on at the first record that is left, without a word. What is certain is only where a log begins now, so
the broker is asked where a partition goes on behind the place that the group, or this member, had in it.
"""

import time
from collections.abc import Callable

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

log = structlog.get_logger()

ANSWER_SECONDS = 2.0

AGAIN_SECONDS = 1.0
"""Between two looks at places that were left out: behind each transaction there is one, and nothing is gone."""

SILENCE_SECONDS = 60.0
"""After a broker has not answered nothing is asked for so long: polling goes first."""

Tell = Callable[[str, int], None]
"""Takes a physical topic, and how many of its offsets are gone."""


class GoneRecords:
    """Looks from one consumer, in the thread that polls it. Blocking, rarely, for a few seconds at most.

    It is no proof that nothing is gone: where the broker does not answer, or transactions hide it, it says nothing.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._answers_from = self._not_before = 0.0

    def look(self, consumer: Consumer, place: tuple[str, int], expected: int | None, offset: int) -> None:
        """Look at a partition that goes on at `offset`, where `expected` would have come next.

        `expected` is None for the first that is read of it: then it is where the group had committed, if anywhere.
        """
        now = time.monotonic()
        if offset == 0 or now < (self._answers_from if expected is None else self._not_before):
            return
        if expected is not None:
            self._not_before = now + AGAIN_SECONDS
        partition = TopicPartition(*place)
        try:
            begin, _ = consumer.get_watermark_offsets(partition, ANSWER_SECONDS)
            if expected is None:
                expected = consumer.committed([partition], ANSWER_SECONDS)[0].offset if begin > 0 else 0
        except KafkaException:
            self._answers_from = self._not_before = now + SILENCE_SECONDS
            return
        end = min(begin, offset)
        if 0 <= expected < end:
            topic, number = place
            log.warning(
                "records_gone",
                partition=f"{topic}/{number}",
                begin=expected,
                end=end,
                consequence="retention has taken these offsets before they were read; "
                "`headrace audit --deep` tells what the store lacks",
            )
            self._tell(topic, end - expected)
