"""Orders: sales, from CSV files. The first valid record of an order_id is the order; later ones change nothing."""

import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel

from schemas.dataset import Dataset
from schemas.fields import Date, KeyText, Number, Text, WholeNumber


class Order(BaseModel):
    """A sold product as it is stored and served. `price` is that of one piece."""

    order_id: Annotated[str, Text(50)]
    customer_id: Annotated[str, KeyText(50)]
    product: Annotated[str, Text(200, search=True)]
    quantity: Annotated[int, WholeNumber(minimum=1)] = 1
    price: Annotated[Decimal, Number(12, 2, minimum=Decimal(0), exact=True)]
    order_date: Annotated[datetime.date, Date()]


DATASET = Dataset(
    name="orders",
    model=Order,
    key=("order_id",),
    table="orders",
    first_wins=True,
    indexed=("customer_id", "product", "order_date"),
    about={"customer_id": "customers"},
    example={
        "order_id": "ORD-1",
        "customer_id": "CUST001",
        "product": "Pen",
        "quantity": "2",
        "price": "12.3",
        "order_date": "2024-01-31",
    },
)
