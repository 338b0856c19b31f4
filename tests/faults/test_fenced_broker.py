"""The only broker is fenced by its controller every other second: for moments it lists no broker and no coordinator."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from local_stack.servers import start_servers
from runtime.errors import DeliveryFailed
from runtime.kafka.lookup import RawLookup
from runtime.kafka.topic_admin import LastingAdmin, list_offsets
from runtime.settings import Settings
from schemas.registry import dataset_named
from tests.faults.figures import Figure, record_figure
from tests.faults.load import load
from tests.faults.own_kafka import settings_on
from tests.faults.scale import scale
from tests.faults.verify import verify, wait_until_settled
from tests.faults.workload import ENDLESS, Workload
from tests.integration.sink_events import publish
from tests.processes import Pipeline
from tests.servers.restless import FENCED_EVERY_SECONDS, restless
from tests.waiting import eventually

PER_SECOND = 2_000


def test_a_broker_is_fenced_again_and_again_and_nobody_stands_still(
    migrated_settings: Settings, tmp_path: Path
) -> None:
    seconds = 2 * scale().outage_seconds
    records = Workload(ENDLESS, 2_000, seed=8)
    with start_servers(tmp_path / "kafka", names={"kafka"}) as kafka:
        settings = settings_on(kafka, migrated_settings, copies=1)
        with Pipeline(settings, tmp_path) as pipeline:
            with restless(kafka), load(settings, records, PER_SECOND) as running:
                time.sleep(seconds)
                ended = time.monotonic()
                published = running.stop()
                wait_until_settled(settings)
                recovery = time.monotonic() - ended
            wait_until_settled(settings)  # after the restart of the broker
            verdict = verify(settings)
            assert [role for role, process in pipeline.processes.items() if process.exit_code is not None] == []
    assert verdict.records == published
    assert (verdict.lost, verdict.double) == (0, 0)
    fences = int(seconds / FENCED_EVERY_SECONDS)
    record_figure(Figure("broker fenced by its controller", fences, published, verdict.lost, verdict.double, recovery))


def test_whoever_was_told_of_no_broker_asks_again_when_there_is_one(
    migrated_settings: Settings, tmp_path: Path
) -> None:
    raw_topic = dataset_named("customers").raw_topic
    with start_servers(tmp_path / "kafka", names={"kafka"}) as kafka, contextlib.ExitStack() as clients:
        settings = settings_on(kafka, migrated_settings, copies=1)
        publish(settings, raw_topic, *[(None, b"{}")] * 1_000)
        topic = settings.named(raw_topic)
        admin = LastingAdmin(settings)
        lookups = [RawLookup(settings) for _ in range(4)]
        for lookup in lookups:
            clients.callback(lookup.close)
        latest = {TopicPartition(topic, 0): OffsetSpec.latest()}  # type: ignore[no-untyped-call]
        questions: list[Callable[[], object]] = [
            partial(admin.ask, lambda client: list_offsets(client, latest)),
            *(partial(lookup.read, [(topic, 0, 0), (topic, 0, 999)]) for lookup in lookups),
        ]

        def ask_until(end: float, question: Callable[[], object]) -> None:
            while time.monotonic() < end:
                with contextlib.suppress(KafkaException, DeliveryFailed):
                    question()

        with restless(kafka), ThreadPoolExecutor(len(questions)) as threads:
            end = time.monotonic() + 20 * FENCED_EVERY_SECONDS
            for question in questions:
                threads.submit(ask_until, end, question)
        for question in questions:
            eventually(question, what="an answer")
