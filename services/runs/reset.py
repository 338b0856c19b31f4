"""Forgetting what the runs did, so that the next one starts as the first."""

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.errors import Explained
from services.runs.runs import end_interrupted

FORGOTTEN = ("etl_runs", "etl_checkpoint", "run_profiles")
"""Tables with a column `source`: the history of runs, how far each source has been read, what its runs looked like."""


class StillRunning(Explained):
    """Nothing is forgotten of a run that is under way."""


class UnknownSource(Explained):
    """A source of that name is not declared and has never run."""


async def forget_runs(
    connection: AsyncConnection, sources: Sequence[str] | None = None, declared: Collection[str] = ()
) -> dict[str, int]:
    """Delete history and checkpoints of these sources, or of all; how many rows of each table. In one transaction.

    Records that are stored stay. Raises StillRunning, and UnknownSource for one that is not `declared` and has no rows.
    """
    # No run begins or ends meanwhile.
    await connection.execute(text("LOCK TABLE etl_runs IN SHARE ROW EXCLUSIVE MODE"))
    await end_interrupted(connection)
    chosen = {"all": sources is None, "sources": list(sources or [])}
    of = "(:all OR source = ANY(:sources))"
    running = text(f"SELECT source, run_id FROM etl_runs WHERE status = 'running' AND {of} LIMIT 1")  # noqa: S608
    if row := (await connection.execute(running, chosen)).first():
        raise StillRunning(f"run {row.run_id} of {row.source} is under way; wait for its end, or stop it")
    deleted = {}
    exists = text("SELECT to_regclass(:table)")
    tables = [t for t in FORGOTTEN if (await connection.execute(exists, {"table": t})).scalar_one() is not None]
    if sources:
        names = " UNION ".join(f"SELECT source FROM {table}" for table in tables)  # noqa: S608 (our own names)
        known = {*declared, *(await connection.execute(text(names))).scalars()}
        if unknown := [name for name in sources if name not in known]:
            raise UnknownSource(f"there is no source {unknown[0]!r}; known are: {', '.join(sorted(known)) or 'none'}")
    for table in tables:
        gone = await connection.execute(text(f"DELETE FROM {table} WHERE {of}"), chosen)  # noqa: S608 (our own name)
        deleted[table] = gone.rowcount
    return deleted
