"""Keeps what the monitor has seen in Postgres: the latest samples as they are, and a row of figures per minute.

Nothing here raises for a Postgres that is away, unless it says so: the monitor goes on without it.
"""

import asyncio
import datetime
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import asyncpg

from runtime.settings import Settings

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0

# As in stores/outages.py, whose SQLAlchemy would cost `headrace lag` a quarter of a second.
POSTGRES_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class LagSamples:
    """One connection to Postgres, which those who ask at once take in turn. For one event loop.

    Connects on first use, and again after an error; close it.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.plain_database_url
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self.problem: str | None = None
        """Why the latest call did not reach Postgres; None if it did."""

    async def load(self, after: float, to: float = math.inf) -> list[bytes] | None:
        """The samples between two moments (seconds since the epoch; `after` exclusive), in order of time.

        None: Postgres is away.
        """
        rows = await self._fetch("SELECT sample FROM lag_samples WHERE at > $1 AND at <= $2 ORDER BY at", after, to)
        return None if rows is None else [row["sample"] for row in rows]

    async def save(self, samples: Sequence[tuple[float, bytes]]) -> bool:
        """Add samples with their times; one that is there stays. False: Postgres is away, and has none or all."""
        saved = await self._fetch(
            "INSERT INTO lag_samples SELECT * FROM unnest($1::float8[], $2::bytea[]) ON CONFLICT DO NOTHING",
            [at for at, _ in samples],
            [sample for _, sample in samples],
        )
        return saved is not None

    async def save_minute(self, minute: datetime.datetime, groups: dict[str, Any]) -> bool:
        """Set the figures of a minute, by group. False: Postgres is away."""
        sql = "INSERT INTO lag_minutes VALUES ($1, $2) ON CONFLICT (at) DO UPDATE SET groups = excluded.groups"
        return await self._fetch(sql, minute, json.dumps(groups)) is not None

    async def forget(self, *, samples_before: float, samples_after: float, minutes_before: datetime.datetime) -> bool:
        """Delete what is older, and samples that are later. False: Postgres is away."""
        done = await self._fetch("DELETE FROM lag_samples WHERE at < $1 OR at > $2", samples_before, samples_after)
        return (
            done is not None and await self._fetch("DELETE FROM lag_minutes WHERE at < $1", minutes_before) is not None
        )

    async def history(self, group: str, hours: float) -> list[tuple[datetime.datetime, Any]] | None:
        """The figures of a group by minute, oldest first, without minutes that have none. None: Postgres is away."""
        sql = "SELECT at, groups -> $1 AS figures FROM lag_minutes WHERE at > $2 AND groups ? $1 ORDER BY at"
        since = datetime.datetime.fromtimestamp(time.time() - 3600 * hours, datetime.UTC)
        rows = await self._fetch(sql, group, since)
        if rows is None:
            return None
        # A month has 44,640 of them: too long for an event loop.
        return await asyncio.to_thread(lambda: [(row["at"], json.loads(row["figures"])) for row in rows])

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.terminate()

    async def _fetch(self, sql: str, *arguments: Any) -> list[Any] | None:
        async with self._turn:
            return await self._fetched(sql, *arguments)

    async def _fetched(self, sql: str, *arguments: Any) -> list[Any] | None:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._url, timeout=CONNECT_SECONDS, command_timeout=ANSWER_SECONDS
                )
            rows: list[Any] = await self._connection.fetch(sql, *arguments)
        except POSTGRES_ERRORS as error:
            self.problem = str(error) or type(error).__name__
            await self.close()
            return None
        self.problem = None
        return rows
