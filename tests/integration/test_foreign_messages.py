"""Messages of another declaration, and messages that nobody of ours wrote, in the Postgres sink."""

import json
from typing import Any

import asyncpg
import msgspec

from runtime.kafka.lookup import RawLookup, RawMessage
from runtime.settings import Settings
from schemas.events import FailedRecord, Origin
from services.audits.audit import audit
from services.failures.candidates import plan
from services.failures.selection import Selection
from sinks.postgres.sink import PostgresSink
from stores.postgres_engine import postgres_engine
from tests.integration.postgres_sink_driver import customer
from tests.integration.sink_events import publish, running
from tests.waiting import eventually_async

RAW = b'{"customer_id":"C%d","first_name":"Ada","last_name":"L","email":"c%d@example.org","loyalty":3}'


def raw_records(settings: Settings, count: int) -> list[RawMessage]:
    """Published to customers.raw, and read back with their times."""
    publish(settings, "customers.raw", *((f"C{n}", RAW % (n, n)) for n in range(count)))
    lookup = RawLookup(settings)
    found = lookup.read((settings.named("customers.raw"), 0, n) for n in range(count))
    lookup.close()
    return [found[settings.named("customers.raw"), 0, n] for n in range(count)]


async def test_a_message_of_another_declaration_fails_its_raw_record_and_garbage_covers_no_offset(
    pipeline_settings: Settings,
) -> None:
    settings = pipeline_settings
    topic = settings.named("customers.raw")
    times = [message.timestamp for message in raw_records(settings, 4)]

    def clean(n: int, **fields: Any) -> dict[str, Any]:
        record = customer(f"C{n}", n, **fields)
        record = msgspec.structs.replace(record, origin=Origin(topic, 0, n, times[n]), run="r1")
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
        return built

    def failed(n: int) -> dict[str, Any]:
        record = FailedRecord(
            "customers", "normalizer", "required", "no", Origin(topic, 0, n, times[n]), 1, payload=b"x"
        )
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
        return built

    def elsewhere(message: dict[str, Any], **origin: Any) -> dict[str, Any]:
        return message | {"origin": message["origin"] | origin}

    ours = {
        "customers.clean": [clean(0, loyalty=3), clean(0, loyalty=3), clean(1)],  # the first two are a redelivery
        "failures": [failed(2), failed(3) | {"problems": "of another form", "payload": 7}],
    }
    forged: list[dict[str, Any]] = [
        {"topic": "elsewhere.raw"},
        {"topic": settings.named("orders.raw")},
        {"topic": settings.named("customers.clean")},
        {"topic": f"{topic}@x"},
        {"topic": f"{topic}@1"},
        {"partition": 3},
        {"partition": -1},
        {"offset": -1},
        {"offset": 2**63 - 1},
        {"timestamp": 2**63},
    ]
    for name, content in ours.items():
        publish(settings, name, *(("K", json.dumps(message).encode()) for message in content))
    garbage = [None, b"", b"\xff\x00", b"{}", b"[" * 100_000, b'{"origin":{}}', b'{"origin":"customers.raw"}']
    publish(settings, "customers.clean", *(("G", value) for value in garbage))
    publish(settings, "failures", *(("G", value) for value in garbage))
    for origin in forged:
        for message in (clean(3), clean(3, loyalty=3)):
            publish(settings, "customers.clean", ("F", json.dumps(elsewhere(message, **origin)).encode()))
        if origin.get("topic") != settings.named("orders.raw"):  # of `failures` any dataset's may be meant
            publish(settings, "failures", ("F", json.dumps(elsewhere(failed(3), **origin)).encode()))
    publish(settings, "failures", ("F", json.dumps(failed(3) | {"failed_at": 10**18}).encode()))

    connect: Any = asyncpg.connect
    postgres = await connect(settings.plain_database_url)

    async def failures(where: str) -> list[Any]:
        rows: list[Any] = await postgres.fetch(f'SELECT * FROM ingest_failures WHERE {where} ORDER BY "offset"')  # noqa: S608
        return rows

    async with running(PostgresSink(settings), settings):
        expected = 2 * len(garbage) + 3 * len(forged) - 1
        await eventually_async(
            lambda: _count(failures("reason = 'foreign'"), expected), what="all that is foreign is shown"
        )
        await eventually_async(lambda: _count(failures("reason <> 'foreign'"), 3), what="our failures are there")
        unread = "message LIKE '%original has not been read yet%'"
        await eventually_async(lambda: _count(failures(unread), 0), what="their originals are read")
        assert [
            (row["offset"], row["reason"], row["key"], row["run_id"]) for row in await failures("reason <> 'foreign'")
        ] == [
            (0, "clean_form", "C0", "r1"),
            (2, "required", None, None),
            (3, "failure_form", None, None),
        ]
        assert {row["topic"] for row in await failures("reason <> 'foreign'")} == {topic}
        assert [row["payload"] for row in await failures("reason LIKE '%_form'")] == [RAW % (n, n) for n in (0, 3)]
        assert {row["dataset"] for row in await failures("reason <> 'foreign'")} == {"customers"}
        books = await postgres.fetch("SELECT topic, partition, ranges::text, inserted, failed FROM coverage")
        assert [tuple(row) for row in books] == [(topic, 0, "{[0,4)}", 1, 3)]

    engine = postgres_engine(settings)
    rows = {(row.topic, row.partition): row for row in await audit(settings, engine)}
    await engine.dispose()
    assert rows[topic, 0].clean
    assert (rows[topic, 0].covered, rows[topic, 0].in_flight) == (4, 0)

    planned = await plan(settings, Selection(datasets=("customers",)))
    told = {(line.reason, line.expected): line.count for line in planned.lines}
    assert told["clean_form", "valid"] == 1, "a retry starts from the raw record"
    assert told["foreign", "original_gone"] > 0
    await postgres.close()


async def _count(found: Any, expected: int) -> bool:
    return len(await found) == expected
