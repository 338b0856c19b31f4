"""Keys whose records came in several partitions: ordered by time, not by offset, and worth a word (decision 0013)."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.registry import ingested_datasets
from stores.tables import dataset_table


@dataclass(frozen=True)
class MovedKeys:
    """Keys of one dataset that moved, and records of them that replaced a row from another partition."""

    dataset: str
    keys: int
    records: int


async def moved_keys(engine: AsyncEngine) -> list[MovedKeys]:
    """Datasets with such keys. One query each, on an index of such rows alone. Raises SQLAlchemyError."""
    found = []
    async with engine.connect() as connection:
        for dataset in ingested_datasets():
            moves = dataset_table(dataset).c.raw_moves
            query = select(func.count(), func.coalesce(func.sum(moves), 0)).where(moves > 0)
            keys, records = (await connection.execute(query)).one()
            if keys:
                found.append(MovedKeys(dataset.name, keys, int(records)))
    return found
