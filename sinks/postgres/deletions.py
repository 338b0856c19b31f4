"""Deletes, and the tombstones that they leave so that a late older record does not bring a deleted one back."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.dataset import Dataset
from schemas.events import Origin
from sinks.postgres import statements as sql
from sinks.postgres.arrivals import Arrival
from sinks.postgres.statements import COORDINATES, newer_than
from stores.postgres_connection import Connection

_FIND = """
    SELECT key, version, raw_partition, raw_offset, raw_timestamp FROM tombstones
    WHERE dataset = $1 AND key = ANY($2::text[])"""

_ANY = "SELECT EXISTS (SELECT FROM tombstones WHERE dataset = $1)"

_FORGET = "DELETE FROM tombstones WHERE dataset = $1 AND key = ANY($2::text[])"

_BURY = f"""
    INSERT INTO tombstones AS t (dataset, key, version, {", ".join(COORDINATES)}, deleted_at)
    SELECT $1, d.key, nextval('row_version'), {", ".join(f"d.{name}" for name in COORDINATES)}, now()
    FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS d (key, {", ".join(COORDINATES)})
    ON CONFLICT (dataset, key) DO UPDATE SET version = nextval('row_version'), deleted_at = now(),
        {", ".join(f"{name} = excluded.{name}" for name in COORDINATES)}
    WHERE {newer_than("excluded", "t")}
    RETURNING key, version"""  # noqa: S608 (column names of ours)

_WITHDRAWN = """
    INSERT INTO tombstones (dataset, key, version, raw_partition, raw_offset, raw_timestamp, deleted_at)
    SELECT $1, key, nextval('row_version'), -1, -1, -1, now() FROM unnest($2::text[]) AS d (key)
    ON CONFLICT (dataset, key) DO UPDATE SET version = excluded.version, deleted_at = now()
    RETURNING key, version"""

_PURGE = "DELETE FROM tombstones WHERE deleted_at < now() - make_interval(hours => $1)"


class Tombstone(NamedTuple):
    """The trace of a deleted record."""

    key: str
    version: int
    partition: int
    offset: int
    timestamp: int

    def overtakes(self, arrival: Arrival) -> bool:
        """True if the arrival is older than the delete, or is that delete itself."""
        deleted = Origin(arrival.origin.topic, self.partition, self.offset, self.timestamp)
        return not arrival.origin.is_newer_than(deleted)


class Deletions:
    """Deletes records of one dataset inside the caller's transaction."""

    def __init__(self, connection: Connection, dataset: Dataset) -> None:
        self._connection = connection
        self._dataset = dataset

    async def tombstones(self, keys: Sequence[str]) -> dict[str, Tombstone]:
        # Looking each key up costs as much as a tenth of its merge, and most datasets never delete.
        if not await self._connection.fetchval(_ANY, self._dataset.name):
            return {}
        rows = await self._connection.fetch(_FIND, self._dataset.name, list(keys))
        return {row["key"]: Tombstone(*row) for row in rows}

    async def forget(self, keys: Sequence[str]) -> None:
        await self._connection.execute(_FORGET, self._dataset.name, list(keys))

    async def withdrawn(self, keys: Sequence[str]) -> dict[str, int]:
        """Leave tombstones of rows that should never have been: they carry a version, and overtake no record.

        Returns the versions by key.
        """
        return dict(map(tuple, await self._connection.fetch(_WITHDRAWN, self._dataset.name, list(keys))))

    async def delete(self, arrivals: Sequence[Arrival]) -> dict[str, int]:
        """Delete the rows that are older than these arrivals, one per key, and leave tombstones, also where there was
        no row; where the first record wins, beside a newer row too. Returns the version of each key that is now
        deleted; for the others something newer is known.
        """
        keys = sql.key_columns(self._dataset, [arrival.key for arrival in arrivals])
        await self._connection.execute(sql.delete(self._dataset), *keys, *_coordinates(arrivals))
        alive = {row[0] for row in await self._connection.fetch(sql.alive(self._dataset), *keys)}
        buried = [arrival for arrival in arrivals if self._dataset.first_wins or arrival.key not in alive]
        rows = await self._connection.fetch(
            _BURY, self._dataset.name, [arrival.key for arrival in buried], *_coordinates(buried)
        )
        return {key: version for key, version in rows if key not in alive}


async def purge_tombstones(connection: Connection, hours: int) -> None:
    """Forget deletes that are older than that. Idempotent."""
    await connection.execute(_PURGE, hours)


def _coordinates(arrivals: Sequence[Arrival]) -> tuple[list[int], list[int], list[int]]:
    origins = [arrival.origin for arrival in arrivals]
    return [o.partition for o in origins], [o.offset for o in origins], [o.timestamp for o in origins]
