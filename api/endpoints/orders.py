"""`GET /orders`: sales, filtered by product, customer, date and price; `GET /orders/totals`: their sums."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel
from sqlalchemy import ColumnElement

from api.access import Scope, needs
from api.answers import json_answer, page_model
from api.clients import OurClients
from api.database import reading
from api.parameters import Cursor, Limit, OptionalAmount, OptionalDate, OptionalPage, OptionalText, Page, StrictRoute
from api.problems import bad_parameter
from api.queries.orders import ORDERS, By, totals, wanted_orders
from api.record_pages import read_page

router = APIRouter(tags=[ORDERS.name], route_class=StrictRoute)


class Total(BaseModel):
    """Sums over the orders of a product or a month: their number, pieces, and price times quantity."""

    product: str | None = None
    month: str | None = None
    orders: int
    quantity: int
    revenue: float


class AllTotals(BaseModel):
    """A page of totals; `orders`, `quantity` and `revenue` are those of all groups, on this page or not."""

    by: By
    data: list[Total]
    total: int
    page: int
    limit: int
    total_pages: int
    orders: int
    quantity: int
    revenue: float


def order_filter(
    product: OptionalText = None,
    customer_id: OptionalText = None,
    first_date: Annotated[
        OptionalDate, Query(alias="from", description="The first order_date, e.g. 2024-01-31.")
    ] = None,
    last_date: Annotated[OptionalDate, Query(alias="to", description="The last order_date, included.")] = None,
    min_price: Annotated[OptionalAmount, Query(description="The least price of a piece.")] = None,
    max_price: Annotated[OptionalAmount, Query(description="The highest price of a piece, included.")] = None,
) -> list[ColumnElement[bool]]:
    """The filters of a request, as conditions. Raises ProblemAnswer for a range that ends before it begins."""
    if first_date and last_date and last_date < first_date:
        raise bad_parameter("to", last_date.isoformat(), f"is before from={first_date}")
    if min_price is not None and max_price is not None and max_price < min_price:
        raise bad_parameter("max_price", str(max_price), f"is less than min_price={min_price}")
    return wanted_orders(product, customer_id, first_date, last_date, min_price, max_price)


Filtered = Annotated[list[ColumnElement[bool]], Depends(order_filter)]


@router.get("/orders", response_model=page_model(ORDERS), summary="A page of orders, by order_id")
@needs(Scope.READ)
async def list_orders(
    clients: OurClients, wanted: Filtered, page: OptionalPage = None, limit: Limit = 10, cursor: Cursor = None
) -> Response:
    """All filters together. One order by its id: `/datasets/orders/{order_id}`."""
    return await read_page(clients, ORDERS, page, limit, cursor, *wanted)


@router.get("/orders/totals", response_model=AllTotals, summary="Orders, pieces and revenue by product or by month")
@needs(Scope.READ)
async def order_totals(
    clients: OurClients, wanted: Filtered, by: By = "product", page: Page = 1, limit: Limit = 100
) -> Response:
    """Exact decimal sums over the orders that satisfy all filters."""
    async with reading(clients.engine) as connection:
        rows, groups, whole = await totals(connection, by, wanted, (page - 1) * limit, limit)
    pages = {"total": groups, "page": page, "limit": limit, "total_pages": -(-groups // limit)}
    return json_answer({"by": by, "data": rows, **pages, **whole})
