"""Failures that a batch brings again are recorded once, and counted once."""

from typing import Any, cast

from schemas.events import FailedRecord, Origin
from sinks.postgres.failures import insert_failures
from stores.postgres_connection import Connection


class Table:
    """The table of failures: it tells which rows a statement has written."""

    def __init__(self) -> None:
        self.places: set[tuple[Any, ...]] = set()

    async def fetch(self, statement: str, *columns: list[Any]) -> list[tuple[Any, ...]]:
        assert 'RETURNING topic, "partition", "offset"' in statement
        names = ("topic", "partition", "offset")
        order = [name.strip(' "') for name in statement.split("(")[1].split(")")[0].split(",")]
        written = [
            place
            for place in zip(*(columns[order.index(name)] for name in names), strict=True)
            if place not in self.places
        ]
        self.places.update(written)
        return written


def foreign(offset: int) -> FailedRecord:
    return FailedRecord("customers", "postgres", "foreign", "of nobody", Origin("customers.clean", 1, offset, 5), 5)


async def test_only_what_is_new_in_the_table_is_news() -> None:
    table = cast("Connection", Table())
    assert await insert_failures(table, []) == []
    assert await insert_failures(table, [foreign(1), foreign(2)]) == [foreign(1), foreign(2)]
    assert await insert_failures(table, [foreign(2), foreign(3)]) == [foreign(3)]
