"""`headrace relay`: what the outbox holds → *.changed, confirmed, and then out of the outbox.

At least once: what was published and not taken out before a crash is published again, with the version that it had,
which followers take idempotently. One relay works at a time, others stand by; so the events of a key keep their order.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import structlog
from confluent_kafka import KafkaException

from runtime.errors import Backpressure
from runtime.fault_points import crash_here
from runtime.instruments import from_zero
from runtime.kafka.clients import reason
from runtime.kafka.confirmed import BY_KEY, Confirmation, Outgoing, Publisher
from runtime.kafka.topic_admin import ensure_topics
from runtime.metrics import OUTBOX_SECONDS
from runtime.settings import Settings
from runtime.tracing import TRACEPARENT, Received, follow, follower_name, within
from schemas.registry import dataset_named
from sinks.lifecycle import Stopped, run_and_drain, through_outages
from sinks.postgres.connection import SinkConnection
from sinks.state import SinkState
from stores.advisory_locks import KEEPALIVES, RELAY, try_lock
from stores.migrate import setup_schema
from stores.postgres_connection import Connection
from stores.tables import OUTBOX_CHANNEL

NAME = "relay"

BATCH_ENTRIES = 1_000

ASK_EVERY_SECONDS = 1.0
"""A commit wakes the relay at once. This is for a notification that was lost with its connection, and for the turn."""

CONFIRM_SECONDS = 3.0
"""A broker that takes longer is called away; the relay goes on waiting."""

_NEXT = "SELECT dataset, key, version, event, written_at, trace FROM outbox ORDER BY version LIMIT $1"

# An entry that a writer is replacing at this moment is passed over: what it says next is still to be published. So the
# relay never waits for a writer, nor a writer for the relay for longer than this statement takes.
_REMOVE = """
    DELETE FROM outbox WHERE version IN (
        SELECT version FROM outbox WHERE version = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED)"""

log = structlog.get_logger()

T = TypeVar("T")


class Entry(NamedTuple):
    """A change event that is to be published."""

    dataset: str
    key: str
    version: int
    event: bytes
    written_at: datetime
    trace: str | None


class Outbox:
    """One session at a time has the turn, until it ends. Every call raises Backpressure while Postgres is away."""

    def __init__(self, settings: Settings) -> None:
        self._connection = SinkConnection(settings, **KEEPALIVES)
        self._news = asyncio.Event()
        self._took_turn = False

    @property
    def has_turn(self) -> bool:
        """True while this session publishes and others stand by."""
        return self._took_turn and self._connection.is_open

    async def next(self, limit: int) -> list[Entry]:
        """The oldest entries; none while another session has the turn."""
        self._news.clear()
        async with self._session() as connection:
            if not self._took_turn:
                self._took_turn = await try_lock(connection, RELAY)
            return [Entry(*row) for row in await connection.fetch(_NEXT, limit)] if self._took_turn else []

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Take out what has been published, unless something newer of its key has taken its place. Idempotent."""
        async with self._session() as connection:
            await connection.execute(_REMOVE, [entry.version for entry in entries])

    async def news(self, seconds: float) -> None:
        """Wait for a commit that put something in since the last `next`, for so long at most, or for `wake`."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        self._news.set()

    async def close(self) -> None:
        """End the session, and with it the turn."""
        await self._connection.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        """A new session has neither the turn nor the listener of the one before."""
        async with self._connection.use() as (connection, new):
            if new:
                self._took_turn = False
                await connection.add_listener(OUTBOX_CHANNEL, self._hear)
            yield connection

    def _hear(self, _connection: Connection, _process: int, _channel: str, _payload: Any) -> None:
        self._news.set()


class OutboxRelay:
    """Connects when it runs. `stop` belongs to the event loop's thread, `health` may be called from any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outbox = Outbox(settings)
        self._publisher = Publisher(settings)
        self._state = SinkState(NAME)
        from_zero(OUTBOX_SECONDS)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Publish what is in hand and end `run`."""
        self._stopping.set()
        self._outbox.wake()

    def health(self) -> dict[str, Any]:
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
                    await self._outbox.news(ASK_EVERY_SECONDS)
        except Stopped:
            return

    async def _set_up(self) -> None:
        await self._publisher.connect()
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
        messages = [self._message(entry) for entry in entries]
        traced = follow(NAME, map(_received, messages, entries))
        with within(traced):
            await self._confirmed(await self._publisher.publish(messages))
        crash_here("outbox_published")
        await self._outbox.remove(entries)
        if traced is not None:
            traced.end()
        self._state.wrote(len(entries))
        self._state.committed()
        now = datetime.now(UTC)
        OUTBOX_SECONDS.labels().observe_all([(now - entry.written_at).total_seconds() for entry in entries])
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


def _received(message: Outgoing, entry: Entry) -> Received:
    headers = [(TRACEPARENT, entry.trace)] if entry.trace else None
    return Received(follower_name(message.topic, message.key), message.topic, None, None, headers)
