"""The pool of connections to Postgres never has more than its maximum."""

import pytest
from sqlalchemy.pool import QueuePool

from api.database import read_engine
from runtime.settings import Settings


@pytest.mark.parametrize("least", [1, 5, 30])
async def test_the_maximum_counts_where_the_minimum_is_more(least: int) -> None:
    engine = read_engine(Settings(database_pool_min=least, database_pool_max=3))
    pool = engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.size() == 3
    await engine.dispose()
