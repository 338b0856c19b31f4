"""Settles replayed failures: where the record that was sent again has ended. Done before somebody looks or acts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.registry import all_datasets
from services.failures.actions import note
from services.failures.replay_jobs import end_interrupted
from stores.arrivals import stored_places
from stores.failure_states import TAKEN_SINCE

PIPELINE = "headrace"
"""Who settles: nobody in person."""

CHUNK = 5000

Row = Mapping[str, Any]

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


async def settle(connection: AsyncConnection, replay_limit: int) -> int:
    """Settle every replayed failure whose new raw record has reached an outcome; returns how many. Idempotent.

    A failure that failed again passes its count of replays on to the new one, which is parked at `replay_limit`.
    What a job whose process is gone has queued is open again. To be called in a transaction.
    """
    await end_interrupted(connection, replay_limit)
    settled = 0
    while True:
        rows: list[Row] = [dict(row) for row in (await connection.execute(_COVERED, {"chunk": CHUNK})).mappings()]
        await _settle_failed([row for row in rows if row["again"] is not None], connection, replay_limit)
        await _settle_taken([row for row in rows if row["again"] is None], connection)
        settled += len(rows)
        if len(rows) < CHUNK:
            return settled


async def _settle_failed(rows: Sequence[Row], connection: AsyncConnection, limit: int) -> None:
    if not rows:
        return
    await connection.execute(_FAILED_AGAIN, [{"id": row["id"], "again": row["again"]} for row in rows])
    parked = []
    for row in rows:
        values = {"id": row["id"], "again": row["again"], "attempts": row["attempts"], "limit": limit}
        if (await connection.execute(_INHERIT, values)).scalar_one_or_none() == "parked":
            parked.append(row["again"])
        await note(connection, [row["id"]], "failed_again", PIPELINE, text=f"as failure {row['again']}")
    await note(connection, parked, "parked", PIPELINE, text=f"failed again {limit} times or more")


async def _settle_taken(rows: Sequence[Row], connection: AsyncConnection) -> None:
    datasets = {dataset.name: dataset for dataset in all_datasets()}
    by_dataset = defaultdict(list)
    for row in rows:
        by_dataset[row["dataset"]].append(row)
    for name, group in by_dataset.items():
        keys = [row["replayed_key"] for row in group if row["replayed_key"] is not None]
        places = await stored_places(connection, datasets[name], keys) if name in datasets else {}
        ended: dict[str, list[int]] = {"stored": [], "superseded": []}
        for row in group:
            place = places.get(row["replayed_key"])
            own = place is None or place[:2] == (row["replayed_partition"], row["replayed_offset"])
            ended["stored" if own else "superseded"].append(row["id"])
        for state, ids in ended.items():
            if ids:
                await connection.execute(_SETTLE, {"state": state, "ids": ids})
                await note(connection, ids, state, PIPELINE)
