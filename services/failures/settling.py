"""Settles replayed failures: finds the outcome of the record that was sent again, before somebody looks or acts."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from runtime.settings import Settings
from schemas.registry import all_datasets
from services.failures.actions import note
from services.failures.listing import Failure, rows
from services.failures.replay_jobs import end_interrupted
from stores.failure_states import TAKEN_SINCE
from stores.origins import stored_origins
from stores.postgres_engine import postgres_engine

PIPELINE = "headrace"
"""The author of what no person did."""

CHUNK = 5000

_COVERED = text(f"""
    SELECT f.id, f.dataset, f.attempts, f.replayed_key, f.replayed_partition, f.replayed_offset, again.id AS again
    FROM ingest_failures f
    JOIN coverage c ON c.topic = f.replayed_topic AND c."partition" = f.replayed_partition
        AND c.ranges @> f.replayed_offset
    LEFT JOIN ingest_failures again ON again.topic = f.replayed_topic
        AND again."partition" = f.replayed_partition AND again."offset" = f.replayed_offset
        AND again.state NOT IN {TAKEN_SINCE}
    WHERE f.state = 'replayed' AND again.state IS DISTINCT FROM 'held'
    ORDER BY f.id LIMIT :chunk FOR UPDATE OF f SKIP LOCKED""")  # noqa: S608

_SETTLE = text("UPDATE ingest_failures SET state = :state, updated_at = now() WHERE id = ANY(:ids)")

_FAILED_AGAIN = text("""
    UPDATE ingest_failures SET state = 'failed_again', failed_again_as = :again, updated_at = now() WHERE id = :id""")

_INHERIT = text("""
    UPDATE ingest_failures SET replay_of = :id, attempts = attempts + :attempts,
        state = CASE WHEN state = 'open' AND attempts + :attempts >= :limit THEN 'parked' ELSE state END
    WHERE id = :again AND replay_of IS NULL RETURNING state""")


@asynccontextmanager
async def settled(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """A transaction on a connection of its own, in which replayed failures are settled."""
    engine = postgres_engine(settings, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await settle(connection, settings.replay_limit)
            yield connection
    finally:
        await engine.dispose()


async def settle(connection: AsyncConnection, replay_limit: int) -> int:
    """Settle every replayed failure whose new raw record has reached an outcome; returns how many. Idempotent.

    A failure that failed again passes its count of replays on to the new one, which is parked at `replay_limit`.
    Failures queued by a job whose process is gone are open again. To be called in a transaction.
    """
    await end_interrupted(connection, replay_limit)
    settled = 0
    while True:
        covered = await rows(connection, _COVERED, {"chunk": CHUNK})
        await _settle_failed([failure for failure in covered if failure["again"] is not None], connection, replay_limit)
        await _settle_taken([failure for failure in covered if failure["again"] is None], connection)
        settled += len(covered)
        if len(covered) < CHUNK:
            return settled


async def _settle_failed(failures: Sequence[Failure], connection: AsyncConnection, limit: int) -> None:
    if not failures:
        return
    await connection.execute(_FAILED_AGAIN, [{"id": one["id"], "again": one["again"]} for one in failures])
    parked = []
    for one in failures:
        values = {"id": one["id"], "again": one["again"], "attempts": one["attempts"], "limit": limit}
        if (await connection.execute(_INHERIT, values)).scalar_one_or_none() == "parked":
            parked.append(one["again"])
        await note(connection, [one["id"]], "failed_again", PIPELINE, text=f"as failure {one['again']}")
    await note(connection, parked, "parked", PIPELINE, text=f"failed again {limit} times or more")


async def _settle_taken(failures: Sequence[Failure], connection: AsyncConnection) -> None:
    datasets = {dataset.name: dataset for dataset in all_datasets()}
    by_dataset = defaultdict(list)
    for failure in failures:
        by_dataset[failure["dataset"]].append(failure)
    for name, group in by_dataset.items():
        keys = [one["replayed_key"] for one in group if one["replayed_key"] is not None]
        origins = await stored_origins(connection, datasets[name], keys) if name in datasets else {}
        ended: dict[str, list[int]] = {"stored": [], "superseded": []}
        for one in group:
            origin = origins.get(one["replayed_key"])
            replayed = one["replayed_partition"], one["replayed_offset"]
            own = origin is None or (origin.partition, origin.offset) == replayed
            ended["stored" if own else "superseded"].append(one["id"])
        for state, ids in ended.items():
            if ids:
                await connection.execute(_SETTLE, {"state": state, "ids": ids})
                await note(connection, ids, state, PIPELINE)
