"""Pending claims: records that failed because another key had their unique value, until they can have it.

A claim waits in `ingest_failures`, with the key that blocks it. Whoever has committed a batch looks, after the commit,
for claims that wait for one of its keys; whoever has committed a claim looks whether its blocker still holds the value.
Of two at the same time the one that commits later sees both, so no claim is forgotten (decision 0039).
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from runtime.metrics import OUTCOMES
from schemas.dataset import Dataset
from schemas.events import Origin
from sinks.postgres.arrivals import Arrival, arrival_of, newest_per_key
from sinks.postgres.coverage import CoverageUpdate
from sinks.postgres.merge import DatasetMerge, Merged, Refused
from stores.postgres_connection import Connection

_KEEP = """
    UPDATE ingest_failures f SET claim = w.claim, blocked_by = w.blocked_by
    FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[], $5::text[])
        AS w (topic, "partition", "offset", claim, blocked_by)
    WHERE (f.topic, f."partition", f."offset") = (w.topic, w."partition", w."offset")"""

_ANY = """
    SELECT EXISTS (SELECT FROM ingest_failures
        WHERE dataset = $1 AND claim IS NOT NULL AND state IN ('open', 'parked', 'queued', 'resolved'))"""

_PENDING = "f.dataset = $1 AND f.claim IS NOT NULL AND f.state <> 'resolved'"

_UNDECIDED = "f.state IN ('open', 'parked') AND f.edited_payload IS NULL"
"""Nobody has discarded or edited it, and no replay is about to send it."""

# Whose blocker has changed, with all that wait for those; and which new claims wait for what, to the end of the chain.
_FIND = f"""
    WITH RECURSIVE waiting (key) AS (
        SELECT f.key FROM ingest_failures f WHERE {_PENDING}
            AND (f.key = ANY($2::text[]) OR f.blocked_by = ANY($2::text[]) OR f.blocked_by IS NULL AND {_UNDECIDED})
        UNION SELECT f.key FROM waiting w JOIN ingest_failures f ON f.blocked_by = w.key WHERE {_PENDING}),
    chain (key) AS (
        SELECT unnest($3::text[])
        UNION SELECT f.blocked_by FROM chain c JOIN ingest_failures f ON f.key = c.key
            WHERE {_PENDING} AND f.blocked_by IS NOT NULL)
    SELECT f.id, f.topic, f."partition" FROM ingest_failures f
    WHERE {_PENDING} AND f.key IN (SELECT key FROM waiting UNION SELECT key FROM chain)"""  # noqa: S608

_LOCK = f"""
    SELECT f.id, f.key, f.topic, f."partition", f."offset", f.raw_timestamp, f.run_id, f.claim, f.blocked_by, f.state,
        {_UNDECIDED} AS undecided
    FROM ingest_failures f WHERE {_PENDING} AND f.id = ANY($2::bigint[]) ORDER BY f.id FOR UPDATE"""  # noqa: S608

_BLOCK = """
    UPDATE ingest_failures f SET claim = CASE WHEN w.claims THEN f.claim END, blocked_by = w.blocked_by
    FROM unnest($1::bigint[], $2::text[], $3::boolean[]) AS w (id, blocked_by, claims) WHERE f.id = w.id"""

_RESOLVE = """
    WITH resolved AS (
        UPDATE ingest_failures f SET state = 'resolved', blocked_by = NULL, updated_at = now(),
            claim = CASE WHEN w.outcome <> 'superseded' THEN f.claim END
        FROM unnest($1::bigint[], $2::text[]) AS w (id, outcome) WHERE f.id = w.id RETURNING f.id, w.outcome)
    INSERT INTO failure_actions (failure_id, action, who, note)
    SELECT id, 'resolved', 'headrace', outcome FROM resolved"""

_UNANNOUNCED = """
    SELECT id, key FROM ingest_failures
    WHERE dataset = $1 AND claim IS NOT NULL AND blocked_by IS NULL AND state = 'resolved'"""

_ANNOUNCED = "UPDATE ingest_failures SET claim = NULL WHERE id = ANY($1::bigint[]) AND state = 'resolved'"


class Settled(NamedTuple):
    """The outcome of settling pending claims."""

    resolved: set[Origin]
    """Coordinates of those that are failures no longer."""
    unannounced: dict[int, str]
    """Failure's id → key, of rows whose change nobody may know of yet, whoever changed them."""


async def keep_claims(connection: Connection, refused: Iterable[Refused]) -> None:
    """Keep with their failures, which are there, those refused for a unique value. In the caller's transaction."""
    claims = [one for one in refused if one.field is not None]
    if claims:
        await connection.execute(
            _KEEP,
            *map(list, zip(*(one.arrival.origin.coordinates for one in claims), strict=True)),
            [one.arrival.data for one in claims],
            [one.holder for one in claims],
        )


async def settle_claims(
    connection: Connection, dataset: Dataset, changed: Collection[str], claimed: Collection[str]
) -> Settled:
    """Apply the claims that can be applied now that rows of `changed` keys and claims of `claimed` keys are committed.

    Each round is a transaction of its own: rows, coverage and failures together. Idempotent; to be called after each
    commit, and again when the batch comes again. Costs one look-up where nothing is pending.
    """
    resolved: set[Origin] = set()
    if not await connection.fetchval(_ANY, dataset.name):
        return Settled(resolved, {})
    while changed or claimed:
        async with connection.transaction():
            merged, claimed = await _settle(connection, dataset, changed, claimed)
        resolved.update(arrival.origin for arrival in merged.accepted())
        changed = {stored.arrival.key for stored in merged.stored}  # others may wait for these
    return Settled(resolved, dict(await connection.fetch(_UNANNOUNCED, dataset.name)))


async def forget_announced(connection: Connection, failures: Collection[int]) -> None:
    """The broker has confirmed the change events of these. Idempotent."""
    await connection.execute(_ANNOUNCED, list(failures))


async def _settle(
    connection: Connection, dataset: Dataset, changed: Collection[str], claimed: Collection[str]
) -> tuple[Merged, set[str]]:
    """The claims that were looked at, and keys whose claims have another blocker, to be looked at after the commit."""
    # Unlike a merge, this compares claims with claims: without hashing, thousands took a minute.
    await connection.execute("SET LOCAL enable_hashjoin = on")
    found = await connection.fetch(_FIND, dataset.name, list(changed), list(claimed))
    if not found:
        return Merged([], [], []), set()
    await connection.execute("SET LOCAL enable_hashjoin = DEFAULT")
    # The coverage first, as everybody does; and then nobody else writes the records of these partitions.
    coverage = CoverageUpdate(connection)
    await coverage.lock({(row["topic"], row["partition"]) for row in found})
    ids: dict[Origin, int] = {}
    blockers: dict[Origin, str | None] = {}
    arrivals: list[Arrival] = []
    undecided: set[Origin] = set()
    queued: list[int] = []
    for row in await connection.fetch(_LOCK, dataset.name, [row["id"] for row in found]):
        origin = Origin(row["topic"], row["partition"], row["offset"], row["raw_timestamp"])
        try:
            arrival = arrival_of(dataset, row["key"], origin, row["claim"])
        except (msgspec.MsgspecError, ValueError):
            continue  # it is of another declaration; a retry sends its raw record
        arrival.run = row["run_id"]
        arrivals.append(arrival)
        ids[origin], blockers[origin] = row["id"], row["blocked_by"]
        if row["undecided"]:
            undecided.add(origin)
        elif row["state"] == "queued":
            queued.append(row["id"])
    if queued:  # a job that ends early leaves what it has not sent open: then it is looked at again
        await connection.execute(_BLOCK, queued, [None] * len(queued), [True] * len(queued))
    merged = await _merge(connection, dataset, arrivals, undecided)
    for outcome, records in merged.by_outcome().items():
        if outcome != "failed" and records:
            coverage.moved("failed", outcome, records)
            await connection.execute(_RESOLVE, [ids[one.origin] for one in records], [outcome] * len(records))
            OUTCOMES.labels(dataset.name, outcome).inc(len(records))
    await coverage.close()
    others = [one for one in merged.refused if one.field is None or one.holder != blockers[one.arrival.origin]]
    if others:
        await connection.execute(
            _BLOCK,
            [ids[one.arrival.origin] for one in others],
            [one.holder for one in others],
            [one.field is not None for one in others],
        )
    return merged, {one.arrival.key for one in others if one.field is not None}


async def _merge(connection: Connection, dataset: Dataset, arrivals: list[Arrival], undecided: set[Origin]) -> Merged:
    """Merge the newest claim of each key, if nobody has decided about it; what it overtakes is superseded."""
    merge = DatasetMerge(connection, dataset, contested=True)
    if dataset.first_wins:
        return await merge.merge([one for one in arrivals if one.origin in undecided])
    newest, others = newest_per_key(arrivals)
    merged = await merge.merge([one for one in newest if one.origin in undecided])
    settled = {arrival.key for arrival in merged.accepted()}
    overtaken = [arrival for arrival in others if arrival.key in settled and arrival.origin in undecided]
    return merged + Merged([], overtaken, [])
