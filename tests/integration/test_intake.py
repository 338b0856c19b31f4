"""The consumer's side of a sink, on a real broker."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from confluent_kafka import Consumer, KafkaException

from runtime.kafka_clients import consumer_config
from runtime.settings import Settings
from sinks.intake import FENCES, Intake
from tests.integration.sink_events import change, publish
from tests.waiting import eventually

GROUP, TOPIC = "sink-test", "customers.changed"


def double(settings: Settings) -> None:
    """Another member with the same instance id joins and is gone: what a coordinator makes of a lost answer."""
    consumer = Consumer(consumer_config(settings, GROUP))
    consumer.subscribe([settings.named(TOPIC)])
    eventually(lambda: consumer.poll(0.1) or consumer.assignment(), what="the double has the partitions")
    consumer.close()


def test_a_member_that_is_fenced_joins_again_and_reads_on(pipeline_settings: Settings) -> None:
    intake = Intake(pipeline_settings, GROUP, [TOPIC])
    intake.open()
    try:
        publish(pipeline_settings, TOPIC, change("C1", 1))
        (first,) = eventually(intake.collect, what="the first record")
        double(pipeline_settings)
        offsets = {(str(first.topic()), int(first.partition())): int(first.offset()) + 1}
        with ThreadPoolExecutor(1) as pool:
            dropped = pool.submit(intake.commit, offsets)
            while not dropped.done():
                intake.take_answers()
        assert dropped.result(), "one that was fenced is dropped, not tried for ever"
        publish(pipeline_settings, TOPIC, change("C1", 2))
        again = eventually(intake.collect, what="what was not committed comes again")
        assert again[0].offset() == first.offset()
    finally:
        intake.close()


def test_a_commit_waits_for_its_answer_as_long_as_nobody_polls(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.intake.COMMIT_SECONDS", 0.5)
    intake = Intake(pipeline_settings, GROUP, [TOPIC])
    intake.open()
    try:
        publish(pipeline_settings, TOPIC, change("C1", 1))
        (first,) = eventually(intake.collect, what="the first record")
        offsets = {(str(first.topic()), int(first.partition())): int(first.offset()) + 1}
        with ThreadPoolExecutor(1) as pool, structlog.testing.capture_logs() as logs:
            committed = pool.submit(intake.commit, offsets)
            time.sleep(2)  # a long write
            while not committed.done():
                intake.take_answers()
        assert committed.result()
        assert logs == [], "it was not given up"
    finally:
        intake.close()


def test_two_processes_with_one_worker_id_are_told_so(pipeline_settings: Settings) -> None:
    intake = Intake(pipeline_settings, GROUP, [TOPIC])
    intake.open()
    try:
        eventually(lambda: intake.collect() or intake.assigned, what="it has joined")
        with pytest.raises(KafkaException, match="give each one a WORKER_ID of its own"):
            fence_again_and_again(intake, pipeline_settings)
    finally:
        intake.close()


def fence_again_and_again(intake: Intake, settings: Settings) -> None:
    for _ in range(FENCES + 1):
        double(settings)
        seen = len(intake._fences)
        while len(intake._fences) == seen:
            intake.collect()
        eventually(lambda: intake.collect() or intake.assigned, what="it has joined again")
