"""Reads what the overview is made of. What is dear is asked less often; what does not answer is told, and no error."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from confluent_kafka import KafkaException
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from monitoring.view import SystemLag
from monitoring.watching import LagWatch
from runtime.kafka.topic_admin import LastingAdmin
from runtime.settings import Settings
from services.overview.assemble import Read, overview
from services.overview.model import Latency, OpenLetters, Overview
from services.overview.reads import (
    Covered,
    LastRun,
    Outbox,
    read_covered,
    read_last_runs,
    read_latency,
    read_letters,
    read_outbox,
)

T = TypeVar("T")

Rows = tuple[OpenLetters, list[LastRun], list[Covered], Outbox]

LATENCY_EVERY_SECONDS = 10.0
"""The newest changes are read so often at most, and only while somebody asks for the overview."""

LETTERS_EVERY_SECONDS = 5.0

LAG_SECONDS = 4.0
POSTGRES_SECONDS = 4.0


class Kept:
    """An answer that is asked for again after so many seconds at the earliest; one that failed at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = 0.0
        self._answer: object = None

    async def of(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer. Raises what asking raises."""
        if self._answer is None or time.monotonic() - self._at >= self._seconds:
            self._answer = None
            self._answer = await ask()
            self._at = time.monotonic()
        answer: T = self._answer  # type: ignore[assignment]
        return answer


class Overviews:
    """Makes overviews for one event loop. `stores` tells of each store why it is down, None where it is well."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        kafka: LastingAdmin,
        lag: LagWatch,
        stores: Callable[[], Awaitable[Mapping[str, str | None]]],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._kafka = kafka
        self._lag = lag
        self._stores = stores
        self._latency = Kept(LATENCY_EVERY_SECONDS)
        self._letters = Kept(LETTERS_EVERY_SECONDS)
        self._runs = Kept(LETTERS_EVERY_SECONDS)
        self._peaks: dict[tuple[str, str], float] = {}

    async def now(self) -> Overview:
        """The overview. Takes some seconds at most, whatever is away."""
        stores = await self._stores()
        lag, rows = await asyncio.gather(self._read_lag(stores), self._read_postgres(stores))
        letters, runs, covered, outbox = rows or (None, (), None, None)
        latency = await self._read_latency() if lag is not None else None
        peaks = dict(self._peaks)
        return overview(
            Read(self._settings, datetime.now(UTC), stores, lag, runs, letters, covered, outbox, latency, peaks)
        )

    async def _read_lag(self, stores: Mapping[str, str | None]) -> SystemLag | None:
        if stores.get("kafka"):
            return None
        try:
            async with asyncio.timeout(LAG_SECONDS):
                view = await self._lag.view()
        except (KafkaException, TimeoutError):
            return None
        for group in view.groups:
            for topic in group.topics:
                # Others' come and go under new names, and are no part of the overview.
                if group.ours and topic.rate_out:
                    which = group.group, topic.topic
                    self._peaks[which] = max(topic.rate_out, self._peaks.get(which, 0.0))
        return view

    async def _read_postgres(self, stores: Mapping[str, str | None]) -> Rows | None:
        if stores.get("postgres"):
            return None
        try:
            async with asyncio.timeout(POSTGRES_SECONDS), self._engine.connect() as connection:
                letters = await self._letters.of(lambda: read_letters(connection))
                runs = await self._runs.of(lambda: read_last_runs(connection))
                covered = await read_covered(connection, self._settings)
                return letters, runs, covered, await read_outbox(connection)
        except (SQLAlchemyError, OSError, TimeoutError):
            return None

    async def _read_latency(self) -> Latency | None:
        def read() -> Latency:
            return self._kafka.ask(lambda admin: read_latency(self._settings, admin))

        try:
            return await self._latency.of(lambda: asyncio.to_thread(read))
        except KafkaException:
            return None
