"""An API as FastAPI's and SQLAlchemy's tutorials write one: what reads are compared with."""

import datetime
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from runtime.settings import Settings
from stores.postgres_engine import postgres_engine


class _Base(DeclarativeBase):
    pass


class _CustomerRow(_Base):
    __tablename__ = "customers"

    customer_id: Mapped[str] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    email: Mapped[str]
    phone: Mapped[str | None]
    address: Mapped[str | None]
    date_of_birth: Mapped[datetime.date | None]
    account_balance: Mapped[Decimal | None]


class Customer(BaseModel):
    """A customer as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    customer_id: str
    first_name: str
    last_name: str
    email: str
    phone: str | None
    address: str | None
    date_of_birth: datetime.date | None
    account_balance: Decimal | None


class CustomerPage(BaseModel):
    """A page of customers."""

    data: list[Customer]
    total: int
    page: int
    limit: int


def create_app(settings: Settings) -> FastAPI:
    """`GET /` says hello without any store; `GET /customers` reads a page, with the number of all."""
    app = FastAPI()
    sessions = async_sessionmaker(postgres_engine(settings))

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as one:
            yield one

    @app.get("/")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/customers", response_model=CustomerPage)
    async def customers(
        db: Annotated[AsyncSession, Depends(session)],
        page: Annotated[int, Query(ge=1)] = 1,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> object:
        total = await db.scalar(select(func.count()).select_from(_CustomerRow))
        chosen = select(_CustomerRow).order_by(_CustomerRow.customer_id).offset((page - 1) * limit).limit(limit)
        return {"data": (await db.scalars(chosen)).all(), "total": total, "page": page, "limit": limit}

    return app
