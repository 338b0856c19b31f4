"""What a normalizer says of itself, and what must not happen when it is asked."""

import asyncio

from runtime.settings import Settings
from stream_processors.app import create_app, output_producer
from stream_processors.confirmations import Confirmations
from stream_processors.normalizer_metrics import Progress
from stream_processors.worker_health import WorkerHealth


async def test_a_look_at_health_before_the_start_does_not_make_the_consumer_on_the_wrong_event_loop() -> None:
    settings, progress = Settings(), Progress()
    confirmations = Confirmations(1_000, print)
    producer = output_producer(settings)
    app = create_app(settings, producer, confirmations, progress, print)
    health = WorkerHealth(app, producer, confirmations, progress)
    details = await asyncio.to_thread(health.details)
    assert details["problem"] == "has not joined the consumer group yet"
    assert details["last_commit_seconds_ago"] is None
    assert app._consumer is None
