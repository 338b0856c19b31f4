"""The originals of what Postgres refuses are read after the commit, and a crash between the two loses none of them."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.fault_points import VARIABLE
from runtime.kafka.lookup import Coordinates, RawLookup, RawMessage
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from schemas.events import HEADER_MAPPING, CleanRecord, FailedRecord, Origin
from schemas.topics import FAILURES_TOPIC
from tests.integration.postgres_sink_driver import customer, driver, failures
from tests.integration.sink_events import publish
from tests.processes import Process
from tests.waiting import eventually

TOPIC = "customers.raw"
ORIGINALS = [b"as the source wrote the first", b"as the source wrote the second", b"and this is no clean record"]
CONFLICT = "email 'ada@example.org' belongs to customer_id 'C0'"
MAPPING = {HEADER_MAPPING: b'{"email":"mail"}'}
UNREAD = "its original has not been read yet"


def read(settings: Settings, places: Iterable[Coordinates]) -> list[RawMessage]:
    lookup, wanted = RawLookup(settings), list(places)
    found = lookup.read(wanted)
    lookup.close()
    return [found[place] for place in wanted]


def reported(settings: Settings) -> list[FailedRecord]:
    """The records in the topic `failures`."""
    ends = end_offsets(settings, [settings.named(FAILURES_TOPIC)])
    places = [(at.topic, at.partition, offset) for at, end in ends.items() for offset in range(end)]
    return [msgspec.json.decode(message.value or b"", type=FailedRecord) for message in read(settings, places)]


def published(settings: Settings) -> list[CleanRecord]:
    """Two customers who want one address, whose originals are in the raw topic."""
    publish(settings, TOPIC, *((f"C{n}", original) for n, original in enumerate(ORIGINALS)), headers=MAPPING)
    topic = settings.named(TOPIC)
    messages = read(settings, [(topic, 0, n) for n in range(len(ORIGINALS))])
    return [
        msgspec.structs.replace(
            customer(f"C{n}", n, email="ada@example.org"), origin=Origin(topic, 0, n, message.timestamp)
        )
        for n, message in enumerate(messages)
    ]


async def test_nobody_waits_for_a_lock_while_an_original_is_looked_up(
    pipeline_settings: Settings, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, read_some, loop = [], RawLookup.read_some, asyncio.get_running_loop()

    def look_up(lookup: RawLookup, wanted: Iterable[Coordinates]) -> tuple[dict[Coordinates, RawMessage], str | None]:
        lock = postgres.fetch("SELECT ranges::text FROM coverage FOR UPDATE NOWAIT")
        locked.extend(asyncio.run_coroutine_threadsafe(lock, loop).result(20))
        return read_some(lookup, wanted)

    async with driver(pipeline_settings) as sink:
        first, second, _ = published(pipeline_settings)
        monkeypatch.setattr(RawLookup, "read_some", look_up)
        (failed,) = failures(await sink.write(first, second))
        assert [tuple(row) for row in locked] == [("{[0,2)}",)], "and it is committed"
        assert (failed.payload, failed.message) == (ORIGINALS[1], CONFLICT)
        row = await postgres.fetchrow("SELECT payload, message, raw_headers->>$1 FROM ingest_failures", HEADER_MAPPING)
        assert tuple(row) == (ORIGINALS[1], CONFLICT, MAPPING[HEADER_MAPPING].decode()), "with how to read it"
        await sink.sink.close()


async def test_a_crash_before_the_look_up_leaves_it_to_the_redelivery(
    pipeline_settings: Settings, postgres: Any, tmp_path: Path
) -> None:
    settings = pipeline_settings
    first, second, third = published(settings)
    strange = msgspec.json.decode(msgspec.json.encode(third)) | {"data": {"of": "another declaration"}}
    sink = Process("sink postgres", settings, tmp_path / "sink.log")
    sink.environment[VARIABLE] = "failures_recorded"
    publish(
        settings,
        "customers.clean",
        *((record.key, msgspec.json.encode(record)) for record in (first, second)),
        (third.key, msgspec.json.encode(strange)),
    )
    sink.start()
    eventually(lambda: sink.exit_code == -signal.SIGKILL, what="it dies before it has read the originals", within=60)

    query = 'SELECT "offset", payload, message FROM ingest_failures ORDER BY "offset"'
    left = await postgres.fetch(query)
    assert [row["offset"] for row in left] == [1, 2], "it is committed that they have failed"
    assert all(UNREAD in row["message"] for row in left), "and said that these are not the originals"
    assert await postgres.fetchval("SELECT ranges::text FROM coverage") == "{[0,3)}"
    # Somebody else gives the address free meanwhile, and the claim becomes a row: its original is read all the same.
    await postgres.execute("UPDATE ingest_failures SET state = 'resolved' WHERE \"offset\" = 1")

    del sink.environment[VARIABLE]
    sink.start()
    try:
        (told,) = eventually(lambda: reported(settings), what="the failure is told", within=60)
    finally:
        assert sink.stop() == 0
    rows = await postgres.fetch(query)
    assert [(row["offset"], row["payload"]) for row in rows] == [(1, ORIGINALS[1]), (2, ORIGINALS[2])]
    assert not any(UNREAD in row["message"] for row in rows)
    assert rows[0]["message"] == CONFLICT
    assert (told.origin.offset, told.payload, UNREAD in told.message) == (2, ORIGINALS[2], False), "of open ones only"
