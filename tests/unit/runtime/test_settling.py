"""What a broker says while it settles is asked again; what stays wrong is told at once."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka.topic_admin import until_settled


@pytest.mark.parametrize("code", [KafkaError.NOT_COORDINATOR, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._NOENT])
def test_a_read_is_repeated_while_leaders_and_coordinators_are_being_found(code: int) -> None:
    answers = [KafkaException(KafkaError(code)), None]

    @until_settled
    def read() -> str:
        if error := answers.pop(0):
            raise error
        return "read"

    assert read() == "read"


def test_a_refusal_is_not_repeated() -> None:
    asked = []

    @until_settled
    def read() -> None:
        asked.append(1)
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))

    with pytest.raises(KafkaException):
        read()
    assert asked == [1]
