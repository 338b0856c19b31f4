"""Customers: from the customer API, CSV files, or pushed. One per customer_id; no two share an e-mail address."""

import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel

from schemas.dataset import Dataset
from schemas.fields import Date, Email, Money, Phone, Text


class Customer(BaseModel):
    """A customer as it is stored and served."""

    customer_id: Annotated[str, Text(50)]
    first_name: Annotated[str, Text(100, search=True)]
    last_name: Annotated[str, Text(100, search=True)]
    email: Annotated[str, Email(255, search=True)]
    phone: Annotated[str | None, Phone()] = None
    address: Annotated[str | None, Text(search=True)] = None
    date_of_birth: Annotated[datetime.date | None, Date()] = None
    account_balance: Annotated[Decimal | None, Money(15, 2)] = None


DATASET = Dataset(
    name="customers",
    model=Customer,
    key=("customer_id",),
    unique=("email",),
    table="customers",
    personal=("first_name", "last_name", "address", "date_of_birth", "account_balance"),
    example={
        "customer_id": "CUST001",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "Ada@example.org",
        "phone": "+44 20 7946 0018",
        "date_of_birth": "10 Dec 1985",
        "account_balance": "$1,234.50",
    },
)
