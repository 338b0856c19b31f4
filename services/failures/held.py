"""Held records in the books: how many there are, and how they leave them when somebody decides against them.

Whoever changes them locks the partitions' coverage first, as the sink does, so that neither waits for the other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.failures.selection import Selection
from stores.tables import coverage, ingest_failures, run_outcomes

_f = ingest_failures.c
_c = coverage.c


async def count_held(connection: AsyncConnection) -> int:
    """How many records are held, in all datasets. Costs a row per partition."""
    return int((await connection.execute(select(func.coalesce(func.sum(_c.held), 0)))).scalar_one())


async def lock_books(connection: AsyncConnection, selection: Selection) -> None:
    """Lock the coverage of the held records that are selected, until the transaction ends."""
    places = select(_f.topic, _f.partition).where(*selection.conditions(), _f.state == "held")
    lock = select(_c.topic).where(tuple_(_c.topic, _c.partition).in_(places)).order_by(_c.topic, _c.partition)
    await connection.execute(lock.with_for_update())


async def book_as_failed(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count these records as failed instead of held. Their books must be locked, and each be held until now."""
    counts = Counter((row["topic"], row["partition"], row["run_id"]) for row in rows)
    for (topic, partition, run), number in counts.items():
        for books, of_run in ((coverage, ()), (run_outcomes, (run_outcomes.c.run_id == run,))):
            c = books.c
            place = update(books).where(c.topic == topic, c.partition == partition, *of_run)
            await connection.execute(place.values({"held": c.held - number, "failed": c.failed + number}))
