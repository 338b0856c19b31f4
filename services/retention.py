"""Takes out of Postgres what is older than its table is to keep: in small steps, and nothing that is still needed.

What stays whatever its age: coverage, and all that accounts for records; failures that nobody has dealt with, and their
raw records; of each source its newest run, its newest successful one, those under way and the one of its checkpoint;
drifts that go on. So an audit says the same before and after.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from runtime.settings import Settings
from schemas.source_kinds import LandingTable
from stores.failure_states import UNSETTLED
from stores.postgres_connection import Connection, postgres_connection

STEP = 5_000
"""Rows that one statement looks at or deletes."""

LANDING: tuple[LandingTable, ...] = get_args(LandingTable)

_SETTLED = f"f.state <> ALL('{{{','.join(UNSETTLED)}}}')"

_NO_LONGER_NEEDED = {
    "ingest_failures": f"""coalesce(f.updated_at, f.failed_at) < $1 AND {_SETTLED} AND f.claim IS NULL""",
    "failure_actions": "f.at < $1 AND NOT EXISTS (SELECT FROM ingest_failures i WHERE i.id = f.failure_id)",
    "failure_replays": """f.ended_at < $1 AND f.state IN ('done', 'cancelled')
        AND NOT EXISTS (SELECT FROM ingest_failures i WHERE i.replay_job = f.id)""",
    "etl_runs": """f.started_at < $1 AND f.status <> 'running'
        AND f.run_id NOT IN (SELECT c.run_id FROM etl_checkpoint c)
        AND EXISTS (SELECT FROM etl_runs n WHERE n.source = f.source AND n.started_at > f.started_at)
        AND (f.status <> 'success' OR EXISTS (SELECT FROM etl_runs n
            WHERE n.source = f.source AND n.status = 'success' AND n.started_at > f.started_at))""",
    "run_profiles": "f.profiled_at < $1 AND NOT EXISTS (SELECT FROM etl_runs r WHERE r.run_id = f.run_id)",
    "schema_drift": "f.ended_at < $1",
}
"""By table, in this order: the condition for a row `f` to be taken out, where $1 is the time before which it is old."""

# The offsets of a partition lie in order of time: a step that ends with a young record is the last.
_LANDED = """
    SELECT f."offset", f.received_at < $4, EXISTS (SELECT FROM ingest_failures i
        WHERE (i.topic, i.partition, i."offset") = (f.topic, f.partition, f."offset") AND i.state = ANY($5))
    FROM {table} f WHERE f.topic = $1 AND f.partition = $2 AND f."offset" > $3 ORDER BY f."offset" LIMIT {limit}"""

_TAKE_OUT = 'DELETE FROM {table} WHERE topic = $1 AND partition = $2 AND "offset" = ANY($3::bigint[])'


@dataclass(frozen=True)
class Kept:
    """Tables that are kept equally long: `days` is the setting of it, 0 for ever."""

    setting: str
    days: Callable[[Settings], int]
    tables: tuple[str, ...]


KEPT = (
    Kept("LANDING_RETENTION_DAYS", lambda settings: settings.landing_retention_days, LANDING),
    Kept(
        "FAILURE_RETENTION_DAYS",
        lambda settings: settings.failure_retention_days,
        ("ingest_failures", "failure_actions", "failure_replays"),
    ),
    Kept("RUN_RETENTION_DAYS", lambda settings: settings.run_retention_days, ("etl_runs", "run_profiles")),
    Kept("DRIFT_RETENTION_DAYS", lambda settings: settings.drift_retention_days, ("schema_drift",)),
)


async def prune(settings: Settings, *, dry_run: bool = False) -> dict[str, int]:
    """Take out what is too old; rows by table, of those that are not kept for ever. Idempotent.

    Each step is a transaction of its own, so that it may be stopped at any time. With `dry_run` it only counts, and an
    action of a failure that would go first is not among them. Raises what asyncpg raises.
    """
    pruned: dict[str, int] = {}
    async with postgres_connection(settings) as connection:
        for kept in KEPT:
            if days := kept.days(settings):
                before = await connection.fetchval("SELECT now() - make_interval(days => $1)", days)
                for table in kept.tables:
                    work = _landed if table in LANDING else _rows
                    pruned[table] = await work(connection, table, before, dry_run=dry_run)
    return pruned


async def _rows(connection: Connection, table: str, before: Any, *, dry_run: bool) -> int:
    old = f"FROM {table} f WHERE {_NO_LONGER_NEEDED[table]}"
    if dry_run:
        return int(await connection.fetchval(f"SELECT count(*) {old}", before))
    pruned = 0
    some = f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT f.ctid {old} LIMIT {STEP} FOR UPDATE SKIP LOCKED))"  # noqa: S608 (names of ours)
    while count := int((await connection.execute(some, before)).rpartition(" ")[2]):
        pruned += count
    return pruned


async def _landed(connection: Connection, table: str, before: Any, *, dry_run: bool) -> int:
    pruned = 0
    look, take = _LANDED.format(table=table, limit=STEP), _TAKE_OUT.format(table=table)
    for topic, partition in await connection.fetch("SELECT topic, partition FROM coverage"):
        last, is_old = -1, True
        while is_old and (rows := await connection.fetch(look, topic, partition, last, before, list(UNSETTLED))):
            old = [offset for offset, row_is_old, needed in rows if row_is_old and not needed]
            if old and not dry_run:
                await connection.execute(take, topic, partition, old)
            pruned += len(old)
            last, is_old, _ = rows[-1]
    return pruned
