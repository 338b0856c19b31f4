"""Orders by what, whose, when and for how much; and what they come to, by product or by month."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.queries.records import Row, Slice
from runtime.tables import dataset_table
from schemas.dataset import Dataset
from schemas.registry import dataset_named

ORDERS: Dataset = dataset_named("orders")

By = Literal["product", "month"]


@dataclass(frozen=True)
class OrderFilter:
    """What is asked for; None for anything. Dates and prices are the first and the last that fit."""

    product: str | None = None
    customer_id: str | None = None
    first_date: datetime.date | None = None
    last_date: datetime.date | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """For WHERE."""
        columns = dataset_table(ORDERS).c
        every: list[tuple[object, Callable[[Any], ColumnElement[bool]]]] = [
            (self.product, columns.product.__eq__),
            (self.customer_id, columns.customer_id.__eq__),
            (self.first_date, columns.order_date.__ge__),
            (self.last_date, columns.order_date.__le__),
            (self.min_price, columns.price.__ge__),
            (self.max_price, columns.price.__le__),
        ]
        return [condition(value) for value, condition in every if value is not None]


async def totals(
    connection: AsyncConnection, by: By, conditions: Sequence[ColumnElement[bool]], offset: int, limit: int
) -> Slice:
    """Orders, pieces and revenue of each product, by name, or of each month, by time. All in exact numbers."""
    group = _group(by)
    query = _sums(group.label(by)).where(*conditions).group_by(group).order_by(group).offset(offset).limit(limit + 1)
    rows: list[Row] = [dict(row) for row in (await connection.execute(query)).mappings()]
    return Slice(rows[:limit], more=len(rows) > limit)


async def grand_total(connection: AsyncConnection, by: By, conditions: Sequence[ColumnElement[bool]]) -> Row:
    """The same of all together, and how many `groups` there are."""
    query = _sums(func.count(_group(by).distinct()).label("groups")).where(*conditions)
    return dict((await connection.execute(query)).mappings().one())


def _group(by: By) -> ColumnElement[str]:
    columns = dataset_table(ORDERS).c
    month: ColumnElement[str] = func.to_char(columns.order_date, "YYYY-MM")
    return columns.product if by == "product" else month


def _sums(*columns: ColumnElement[Any]) -> Select[Any]:
    table = dataset_table(ORDERS)
    return select(
        *columns,
        func.count().label("orders"),
        func.coalesce(func.sum(table.c.quantity), 0).label("quantity"),
        func.coalesce(func.sum(table.c.quantity * table.c.price), Decimal("0.00")).label("revenue"),
    ).select_from(table)
