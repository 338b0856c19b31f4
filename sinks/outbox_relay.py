"""`headrace relay`: what the outbox holds → *.changed, confirmed, and then out of the outbox.

At least once: what was published and not taken out before a crash is published again, with the version that it had,
which followers take idempotently. One relay works at a time, others stand by; so the events of a key keep their order.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException
from prometheus_client import Histogram

from runtime.errors import Backpressure
from runtime.fault_points import crash_here
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import BY_KEY, Confirmation, Outgoing, Publisher
from runtime.kafka.topic_admin import ensure_topics
from runtime.settings import Settings
from schemas.registry import dataset_named
from sinks.lifecycle import Stopped, run_and_drain, through_outages
from sinks.postgres.outbox import Entry, Outbox
from sinks.state import SinkState
from stores.migrate import setup_schema

NAME = "relay"

BATCH_ENTRIES = 1_000

LOOK_EVERY_SECONDS = 1.0
"""A commit wakes the relay at once. This is for a notification that was lost with its connection, and for the turn."""

CONFIRM_SECONDS = 3.0
"""A broker that takes longer is called away; the relay goes on waiting."""

PUBLISHED_AFTER = Histogram(
    "headrace_outbox_seconds",
    "From the start of a row's transaction to the broker's confirmation of its event",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0),
)

log = structlog.get_logger()

T = TypeVar("T")


class OutboxRelay:
    """Connects when it runs. `stop` belongs to the event loop's thread, `health` may be called from any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outbox = Outbox(settings)
        self._publisher = Publisher(settings)
        self._state = SinkState(NAME)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Publish what is in hand and end `run`."""
        self._stopping.set()
        self._outbox.wake()

    def health(self) -> dict[str, Any]:
        """Details for the health server."""
        return {"turn": "active" if self._outbox.has_turn else "standby", **self._state.details()}

    async def run(self) -> None:
        """Publish until stopped, through outages of Postgres and Kafka. Raises what calls for a crash."""
        log.info("relay_started")
        try:
            await run_and_drain(self._work(), self._stopping, consequence="it stays in the outbox")
        finally:
            await self._publisher.close()
            await self._outbox.close()
        log.info("relay_stopped")

    async def _work(self) -> None:
        try:
            await self._through_outages(self._set_up)
            while not self._stopping.is_set():
                if not await self._through_outages(self._move_some):
                    await self._outbox.news(LOOK_EVERY_SECONDS)
        except Stopped:
            return

    async def _set_up(self) -> None:
        await setup_schema(self._settings)
        try:
            await asyncio.to_thread(ensure_topics, self._settings)
        except KafkaException as error:
            raise Backpressure("Kafka", reason(error)) from error

    async def _move_some(self) -> int:
        """Publish a batch and take it out of the outbox; returns how many entries it had."""
        entries = await self._outbox.next(BATCH_ENTRIES)
        if not entries:
            return 0
        self._state.write_began()
        await self._confirmed(await self._publisher.publish(map(self._message, entries)))
        crash_here("outbox_published")
        await self._outbox.remove(entries)
        self._state.wrote(len(entries))
        self._state.committed()
        now = datetime.now(UTC)
        for entry in entries:
            PUBLISHED_AFTER.observe((now - entry.written_at).total_seconds())
        return len(entries)

    def _message(self, entry: Entry) -> Outgoing:
        topic = self._settings.named(dataset_named(entry.dataset).changed_topic)
        return Outgoing(topic, BY_KEY, entry.key.encode(), entry.event)

    async def _confirmed(self, confirmation: Confirmation) -> None:
        confirmed = asyncio.create_task(confirmation.confirmed())
        try:
            await asyncio.wait({confirmed}, timeout=CONFIRM_SECONDS)
            if not confirmed.done():
                self._state.store_is_down(Backpressure("Kafka", f"no confirmation within {CONFIRM_SECONDS:g} s"))
            await confirmed
        finally:
            confirmed.cancel()

    async def _through_outages(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await through_outages(attempt, self._state, self._pause)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
            raise Stopped
