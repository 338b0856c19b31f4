"""A record with a header whose name is no text, as clients in Go, Rust or C can send it: everybody reads on."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from runtime.kafka.lookup import RawLookup
from runtime.kafka.message_headers import message_headers
from runtime.settings import Settings
from schemas.events import CleanRecord
from sinks.landing import LandingSink
from tests.foreign_batches import Record, batch, send_batch
from tests.integration.sink_events import running
from tests.integration.test_normalizer import CUSTOMER, read
from tests.processes import Process
from tests.waiting import eventually_async

HEADERS = [(b"headrace-source", b"shop")]
RECORDS = [
    Record(b"C000001", CUSTOMER % (1, 1, 1), HEADERS),
    Record(b"C000002", CUSTOMER % (2, 2, 2), [*HEADERS, (b"\xff\xfe", b"1")]),
    Record(b"C000003", CUSTOMER % (3, 3, 3), HEADERS),
]


class LooksTwice(LandingSink):
    """Looks at headers once more, as a process that makes traces does, and has seen many before."""

    def prepare(self, messages: Any) -> Any:
        for _ in range(1_000):
            message_headers(messages[0])
        prepared = super().prepare(messages)
        assert all(isinstance(message_headers(message), tuple) for message in messages)
        return prepared


async def test_a_header_name_that_is_no_text_stops_neither_normalizer_nor_landing_sink(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    topic = settings.named("customers.raw")
    await send_batch(settings, topic, batch(RECORDS))
    with Process("normalizer", settings, tmp_path / "normalizer.log").running():
        found = await asyncio.to_thread(read, settings, "customers.clean", 3)
    clean = [msgspec.json.decode(message.value() or b"", type=CleanRecord) for message in found]
    assert [(one.key, one.source, one.origin.offset) for one in clean] == [
        ("C000001", "shop", 0),
        ("C000002", "push", 1),
        ("C000003", "shop", 2),
    ]

    connect: Any = asyncpg.connect
    postgres = await connect(settings.plain_database_url)
    landed = 'SELECT source_name, payload FROM raw_api_data ORDER BY "offset"'

    async def rows() -> list[Any]:
        found: list[Any] = await postgres.fetch(landed)
        return found if len(found) == len(RECORDS) else []

    async with running(LooksTwice(settings), settings):
        raw = await eventually_async(rows, what="all are landed")
    await postgres.close()
    assert [tuple(row) for row in raw] == [
        ("shop", RECORDS[0].value),
        (None, RECORDS[1].value),
        ("shop", RECORDS[2].value),
    ]
    lookup = RawLookup(settings)
    messages = await asyncio.to_thread(lookup.read, [(topic, 0, 1), (topic, 0, 2)])
    await asyncio.to_thread(lookup.close)
    assert messages[topic, 0, 1].headers == ()
    assert messages[topic, 0, 2].headers == (("headrace-source", b"shop"),)
