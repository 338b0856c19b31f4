"""dlt: merge (upsert) by key into Postgres, Arrow tables of up to 50,000 records a load, as its guide advises."""

import os

import dlt
import pyarrow
from confluent_kafka import Consumer
from pyarrow import json as arrow_json

CLEAN, GROUP, SERVERS = os.environ["PEER_CLEAN"], os.environ["PEER_GROUP"], os.environ["KAFKA_BOOTSTRAP_SERVERS"]

SCHEMA = pyarrow.schema(
    [
        ("customer_id", pyarrow.string()),
        ("first_name", pyarrow.string()),
        ("last_name", pyarrow.string()),
        ("email", pyarrow.string()),
        ("phone", pyarrow.string()),
        ("address", pyarrow.string()),
        ("date_of_birth", pyarrow.string()),
        ("account_balance", pyarrow.string()),
    ]
)


def taken(consumer: Consumer) -> list[bytes]:
    """What is there, up to a load."""
    values: list[bytes] = []
    while len(values) < 50_000:
        messages = consumer.consume(5000, 0.2)
        if not messages:
            break
        values += [message.value() for message in messages]
    return values


def main() -> None:
    options = {"group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": SERVERS, **options})
    consumer.subscribe([CLEAN])
    pipeline = dlt.pipeline(
        "peer",
        destination=dlt.destinations.postgres(os.environ["DATABASE_URL"]),
        dataset_name="public",
        pipelines_dir=os.environ["PEER_FOLDER"],
    )
    parsing = arrow_json.ParseOptions(explicit_schema=SCHEMA)
    while True:
        if values := taken(consumer):
            table = arrow_json.read_json(pyarrow.BufferReader(b"\n".join(values)), parse_options=parsing)
            decimal = table.column("account_balance").cast(pyarrow.decimal128(15, 2))
            date = table.column("date_of_birth").cast(pyarrow.date32())
            table = table.set_column(7, "account_balance", decimal).set_column(6, "date_of_birth", date)
            pipeline.run(
                table,
                table_name="peer_customers",
                write_disposition={"disposition": "merge", "strategy": "upsert"},
                primary_key="customer_id",
                loader_file_format="csv",
            ).raise_on_failed_jobs()
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main()
