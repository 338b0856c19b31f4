"""Calls of a consumer that librdkafka (2.16) does not always end, with an end.

It never answers some commits that are under way while the group's coordinator moves, and a consumer with such a commit
never closes. Each call gets a daemon thread, which is left behind after the deadline.
"""

import threading
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

COMMIT_SECONDS = 30.0
"""When a coordinator is away, librdkafka says so some 10 s (the session timeout) after the commit; later than this
nothing comes any more."""

CLOSE_SECONDS = 5.0


def commit_within(consumer: Consumer, places: Sequence[TopicPartition]) -> None:
    """Commit these offsets. Blocking, for COMMIT_SECONDS at most; meanwhile the consumer does nothing else.

    Raises KafkaException if the coordinator does not have all of them, or has not answered in that time: the commit may
    happen yet, and the consumer is of no use any more.
    """
    answers: list[list[KafkaError]] = []

    def commit() -> None:
        try:
            done = consumer.commit(offsets=list(places), asynchronous=False)
        except KafkaException as error:
            answers.append([error.args[0]])
        else:
            answers.append([place.error for place in done or () if place.error is not None])

    thread = threading.Thread(target=commit, name="commit", daemon=True)
    thread.start()
    thread.join(COMMIT_SECONDS)
    if not answers:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer to a commit within {COMMIT_SECONDS:g} s"))  # noqa: SLF001
    for error in answers[0]:
        raise KafkaException(error)


def close_consumer(consumer: Consumer, seconds: float = CLOSE_SECONDS) -> None:
    """Close it, and wait for that no longer than this. Blocking."""
    thread = threading.Thread(target=consumer.close, name="close", daemon=True)
    thread.start()
    thread.join(seconds)
