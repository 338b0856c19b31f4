"""Lines about held records; without SQLAlchemy, since `headrace status` does not load it."""

import asyncpg

from runtime.settings import Settings
from stores.postgres_connection import SOON_SECONDS, postgres_connection

_HELD_BY_SOURCE = """
    SELECT dataset, source_name, count(*) FROM ingest_failures WHERE state = 'held' GROUP BY 1, 2 ORDER BY 1, 2
"""


async def held_lines(settings: Settings) -> list[str]:
    """A line per source with held records: how many, and the way out. None of them if Postgres does not answer."""
    try:
        async with postgres_connection(settings, SOON_SECONDS) as connection:
            rows = await connection.fetch(_HELD_BY_SOURCE, timeout=SOON_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return []
    lines = []
    for dataset, source, number in rows:
        chosen = f"--source {source}" if source else f"--dataset {dataset}"
        lines.append(
            f"{number:,} records of {source or 'no named source'} ({dataset}) are held, since nearly all of them "
            f"failed: `headrace failures release {chosen}`, or `headrace failures discard {chosen}`"
        )
    return lines
