"""Recorded runs, as endpoints answer with them."""

from http import HTTPStatus

from api.clients import Clients
from api.database import reading
from api.problems import ProblemAnswer
from services.runs.runs import RunRow, end_interrupted, list_runs, read_run


async def recorded_run(clients: Clients, run_id: str) -> RunRow:
    """The run of that id. Raises ProblemAnswer (404) if none is recorded, Unavailable without Postgres."""
    row = None
    # Postgres holds no NUL character.
    if "\x00" not in run_id:
        async with reading(clients.engine) as connection:
            await end_interrupted(connection)
            row = await read_run(connection, run_id)
    if row is None:
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", f"No run {run_id[:80]!r} is recorded")
    return row


async def latest_run(clients: Clients) -> RunRow | None:
    """The run that began last, of any source. Raises Unavailable."""
    async with reading(clients.engine) as connection:
        await end_interrupted(connection)
        rows, _ = await list_runs(connection, limit=1)
    return rows[0] if rows else None
