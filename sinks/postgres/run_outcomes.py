"""What became of each run's records: counted beside the partitions' outcomes, in the same transaction, and so once.

A row per run and raw partition, so that only who has locked the partition's coverage writes it.
"""

from collections import Counter, defaultdict

from sinks.postgres.connection import Connection
from stores.tables import OUTCOMES

KEPT_DAYS = 7
"""Since the last record of a run. Who waits for a run copies its counts into `etl_runs`."""

LONGEST_RUN_ID = 100
"""Characters. Ours are UUIDs; what a foreign producer takes for one is counted if an index can hold it."""

_ADD = f"""
    INSERT INTO run_outcomes AS r (run_id, topic, partition, {", ".join(OUTCOMES)}, updated_at)
    SELECT w.*, now() FROM unnest($1::text[], $2::text[], $3::int[],
        {", ".join(f"${4 + n}::int[]" for n in range(len(OUTCOMES)))}) AS w ORDER BY 1, 2, 3
    ON CONFLICT (run_id, topic, partition) DO UPDATE
        SET {", ".join(f"{outcome} = r.{outcome} + excluded.{outcome}" for outcome in OUTCOMES)}, updated_at = now()"""  # noqa: S608 (column names of ours)

_PURGE = f"""
    DELETE FROM run_outcomes r WHERE updated_at < now() - make_interval(days => {KEPT_DAYS})
        AND NOT EXISTS (SELECT FROM etl_runs e WHERE e.run_id = r.run_id AND e.status = 'running')"""  # noqa: S608 (a number)


class RunOutcomes:
    """The counts of one transaction."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], Counter[str]] = defaultdict(Counter)

    def count(self, run: str | None, place: tuple[str, int], outcome: str, number: int) -> None:
        """So many more records of a run have that outcome. Those that name no run are counted per partition only."""
        if run is not None and len(run) <= LONGEST_RUN_ID and "\x00" not in run:
            self._counts[run, *place][outcome] += number

    async def write(self, connection: Connection) -> None:
        """Add what was counted. The partitions' coverage must be locked."""
        if self._counts:
            places = [list(column) for column in zip(*self._counts, strict=True)]
            counts = [[counted[outcome] for counted in self._counts.values()] for outcome in OUTCOMES]
            await connection.execute(_ADD, *places, *counts)


async def purge_run_outcomes(connection: Connection) -> None:
    """Forget the counts of runs that have long had all their records. Idempotent."""
    await connection.execute(_PURGE)
