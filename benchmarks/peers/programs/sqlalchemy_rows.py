"""SQLAlchemy's ORM, row by row: `session.merge` of each record, a commit for each poll of up to 500."""

import json
import os
from decimal import Decimal

from confluent_kafka import Consumer
from sqlalchemy import Date, Numeric, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

CLEAN, GROUP, SERVERS = os.environ["PEER_CLEAN"], os.environ["PEER_GROUP"], os.environ["KAFKA_BOOTSTRAP_SERVERS"]


class Base(DeclarativeBase):  # noqa: D101
    pass


class Customer(Base):  # noqa: D101
    __tablename__ = "peer_customers"

    customer_id: Mapped[str] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    email: Mapped[str]
    phone: Mapped[str | None]
    address: Mapped[str | None]
    date_of_birth: Mapped[str | None] = mapped_column(Date)
    account_balance: Mapped[Decimal | None] = mapped_column(Numeric(15, 2))


def main() -> None:
    options = {"group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": SERVERS, **options})
    consumer.subscribe([CLEAN])
    engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://"))
    while True:
        if messages := consumer.consume(500, 0.1):
            with Session(engine) as session:
                for message in messages:
                    session.merge(Customer(**json.loads(message.value())))
                session.commit()
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main()
