"""The bare loop that one would write first: consume, decode, COPY, commit. No upsert: a repeat would end it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import asyncpg
from confluent_kafka import Consumer

from benchmarks.peers.programs.rules import CLEAN, GROUP, SERVERS

COLUMNS = ("customer_id", "first_name", "last_name", "email", "phone", "address", "date_of_birth", "account_balance")
ESCAPED = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def line(value: bytes) -> str:
    record = json.loads(value)
    return "\t".join([r"\N" if record[name] is None else record[name].translate(ESCAPED) for name in COLUMNS])


async def chunk(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def main() -> None:
    options = {"group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": SERVERS, **options})
    consumer.subscribe([CLEAN])
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    while True:
        if messages := consumer.consume(5000, 0.1):
            lines = "\n".join([line(message.value()) for message in messages]) + "\n"
            await connection.copy_to_table(
                "peer_customers", source=chunk(lines.encode()), columns=COLUMNS, format="text"
            )
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    asyncio.run(main())
