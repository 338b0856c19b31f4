"""The landing sink: raw records lie in their table, byte for byte, once."""

import secrets
from typing import Any

import asyncpg
from confluent_kafka.admin import NewTopic

from runtime.kafka.topic_admin import admin_client, ensure_topics
from runtime.settings import Settings
from sinks.landing import LandingSink
from tests.foreign_batches import Record, batch, send_batch
from tests.integration.sink_events import publish, running
from tests.servers.contract import Servers
from tests.waiting import eventually_async


async def rows(settings: Settings, table: str, order: str = '"offset"') -> list[Any]:
    connect: Any = asyncpg.connect
    connection = await connect(settings.plain_database_url)
    try:
        return list(await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}"))  # noqa: S608
    finally:
        await connection.close()


async def test_any_bytes_are_kept_untouched_in_the_table_of_their_kind(pipeline_settings: Settings) -> None:
    payloads = [b'{"a": 1}', b"\xff\xfe\x00 not text", None]
    publish(pipeline_settings, "customers.raw", *((b"\xffkey\x00", payload) for payload in payloads))
    publish(
        pipeline_settings,
        "records.raw",
        ("t:1", b'{"row": "1"}'),
        headers={"headrace-kind": b"csv", "headrace-source": b"titanic", "headrace-run": b"r1"},
    )
    async with running(LandingSink(pipeline_settings), pipeline_settings):

        async def landed() -> bool:
            counts = [len(await rows(pipeline_settings, table)) for table in ("raw_csv_data", "raw_api_data")]
            return counts == [1, 3]

        await eventually_async(landed, what="four records have landed")
    api = await rows(pipeline_settings, "raw_api_data")
    assert [row["payload"] for row in api] == payloads
    assert api[0]["key"] == "\\xffkey\\x00"
    [csv] = await rows(pipeline_settings, "raw_csv_data")
    assert (csv["source_name"], csv["run_id"], csv["payload"]) == ("titanic", "r1", b'{"row": "1"}')


async def test_a_source_with_a_name_of_any_length_stops_nobody(pipeline_settings: Settings) -> None:
    name = secrets.token_hex(4000).encode()  # longer than an entry of an index may be, and not compressible
    publish(pipeline_settings, "customers.raw", ("1", b'{"a": 1}'), headers={"headrace-source": name})
    publish(pipeline_settings, "customers.raw", ("2", b'{"a": 1}'))
    async with running(LandingSink(pipeline_settings), pipeline_settings):

        async def landed() -> bool:
            return len(await rows(pipeline_settings, "raw_api_data")) == 2

        await eventually_async(landed, what="both records have landed")
    sources = [row["source_name"] for row in await rows(pipeline_settings, "source_schemas", "source_name")]
    assert sorted(map(len, sources)) == [len("push"), 200]


async def test_the_landing_sink_waits_while_postgres_is_stopped_and_then_stores_everything(
    pipeline_settings: Settings, servers: Servers
) -> None:
    async with running(LandingSink(pipeline_settings), pipeline_settings) as runner:
        publish(pipeline_settings, "customers.raw", ("first", b"1"))

        async def first() -> bool:
            return len(await rows(pipeline_settings, "raw_api_data")) == 1

        await eventually_async(first, what="the first record has landed")
        servers.stop("postgres")
        try:
            publish(pipeline_settings, "customers.raw", ("second", b"2"))

            async def waiting() -> bool:
                return str(runner.health()["state"]) == "waiting_for_store"

            await eventually_async(waiting, what="the sink waits for Postgres")
        finally:
            servers.start("postgres")

        async def both() -> bool:
            return [row["payload"] for row in await rows(pipeline_settings, "raw_api_data")] == [b"1", b"2"]

        await eventually_async(both, what="the second record has landed")


async def test_a_record_of_any_time_is_landed(migrated_settings: Settings) -> None:
    """Where the topic is not as `headrace setup` makes it, times are those of producers: in microseconds, or forged."""
    settings, topic = migrated_settings, migrated_settings.named("customers.raw")
    producers_times = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    admin = admin_client(settings)  # kept until the answer is in: its end would cancel it
    admin.create_topics([NewTopic(topic, 3, 1, config=producers_times)])[topic].result()
    ensure_topics(settings)
    times = [-1, -(2**62), 0, 1_700_000_000_000_000, 1_700_000_000_000_000_000, 2**63 - 1]
    for time in times:
        await send_batch(settings, topic, batch([Record(b"1", b"{}", (), time)]))
    async with running(LandingSink(settings), settings):

        async def landed() -> bool:
            return len(await rows(settings, "raw_api_data")) == len(times)

        await eventually_async(landed, what="all have landed")
    years = [row["received_at"].year for row in await rows(settings, "raw_api_data")]
    assert years == [1970, 1970, 1970, 9999, 9999, 9999]
