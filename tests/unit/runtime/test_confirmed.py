"""Messages that a broker does not confirm."""

import pytest
from confluent_kafka import KafkaError, Producer

from runtime.kafka import confirmed
from runtime.kafka.clients import producer_config
from runtime.kafka.confirmed import Outgoing
from runtime.settings import Settings


def test_once_a_message_has_timed_out_those_that_wait_for_room_fail_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:9")
    room_for_one = {"delivery.timeout.ms": 300, "queue.buffering.max.messages": 1}
    producer = Producer(producer_config(settings, log_level=0, error_cb=lambda _: None, **room_for_one))
    queue, queued = confirmed._queued, []

    def counted(*arguments: object) -> bool:
        queued.append(queue(*arguments))  # type: ignore[arg-type]
        return queued[-1]

    monkeypatch.setattr(confirmed, "_queued", counted)
    reports = confirmed.send(producer, [Outgoing("t", 0, None, b"x")] * 5)
    assert [isinstance(report, KafkaError) and report.name() for report in reports] == ["_MSG_TIMED_OUT"] * 5
    assert sum(queued) == 1
