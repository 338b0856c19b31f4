"""What a normalizer says of itself, and what must not happen when it is asked."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

import stream_processors.worker_health
from runtime.settings import Settings
from stream_processors.app import create_app, output_producer
from stream_processors.confirmations import Confirmations
from stream_processors.normalizer_metrics import Counts
from stream_processors.worker_health import WorkerHealth


async def test_a_worker_that_passes_aborted_records_alone_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(stream_processors.worker_health, "time", SimpleNamespace(monotonic=lambda: now))
    consumer = SimpleNamespace(committed_at=1.0, waiting_partitions=lambda: [TP("customers.raw", 0)])
    app: Any = SimpleNamespace(consumer=consumer, on_partitions_assigned=SimpleNamespace(connect=lambda *_, **__: None))
    producer: Any = None
    health = WorkerHealth(app, producer, Confirmations(1_000, print), Counts())
    await health._on_assigned(None, [TP("customers.raw", 0)])
    for now in (10.0, 20.0, 30.0):
        consumer.committed_at = now
        health._look_for_progress()
        assert health._stalled_seconds == 0
    now = 40.0
    health._look_for_progress()
    assert health._stalled_seconds == 10


async def test_a_look_at_health_before_the_start_does_not_make_the_consumer_on_the_wrong_event_loop() -> None:
    settings, counts = Settings(), Counts()
    confirmations = Confirmations(1_000, print)
    producer = output_producer(settings)
    app = create_app(settings, producer, confirmations, counts, print)
    health = WorkerHealth(app, producer, confirmations, counts)
    details = await asyncio.to_thread(health.details)
    assert details["problem"] == "has not joined the consumer group yet"
    assert details["last_commit_seconds_ago"] is None
    assert app._consumer is None
