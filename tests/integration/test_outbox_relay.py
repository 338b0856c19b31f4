"""The relay: what the API has written reaches its topic, whatever dies or is away, and then leaves the outbox."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog
from confluent_kafka import Consumer
from redis.asyncio import Redis

import sinks.outbox_relay
from monitoring.lag import read_lag
from runtime.fault_points import VARIABLE
from runtime.kafka.clients import QUIET
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from schemas.events import ChangeEvent, FailedRecord
from schemas.registry import dataset_named
from services.audits.deep_audit import caught_up
from services.audits.store_comparison import Rows, StoreAudit, audit_store
from sinks.elasticsearch import Documents, ElasticsearchSink
from sinks.outbox_relay import Outbox, OutboxRelay
from sinks.redis_invalidation import RedisInvalidationSink
from stores.cache import VersionedCache
from stores.postgres_engine import postgres_engine
from stores.search_index import alias_name, ensure_indices
from tests.e2e.stores import rows, value
from tests.integration.api_client import api_client
from tests.integration.sink_events import publish, running
from tests.processes import Process
from tests.search_index import drop_indices, search_server
from tests.servers.contract import ServerName, Servers
from tests.waiting import eventually, eventually_async

USERS = dataset_named("users")

END_THE_SESSION_WITH_THE_TURN = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
async def client(pipeline_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(pipeline_settings) as client:
        yield client


@asynccontextmanager
async def relaying(settings: Settings) -> AsyncIterator[OutboxRelay]:
    """A relay at work; its crash fails the test."""
    relay = OutboxRelay(settings)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await task


async def create(client: httpx.AsyncClient, *names: str, **fields: str) -> None:
    for name in names:
        user = {"name": name, "email": f"{name}@example.org", "role": "user", **fields}
        answer = await client.post("/users/", json=user)
        assert answer.status_code == 201, answer.text


def events(settings: Settings, topic: str = "users.changed") -> list[ChangeEvent]:
    """Everything that is in the topic, per partition in order."""
    ends = end_offsets(settings, [settings.named(topic)])
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "reader", "log_level": QUIET}
    consumer = Consumer({**config, "enable.auto.commit": False})
    found: list[ChangeEvent] = []
    try:
        for partition in ends:
            partition.offset = 0
        consumer.assign(list(ends))
        wanted = sum(ends.values())

        def read() -> bool:
            messages = [message for message in consumer.consume(1_000, 0.5) if message.error() is None]
            for message in messages:
                event = msgspec.json.decode(message.value() or b"", type=ChangeEvent)
                assert (message.key() or b"").decode() == event.key
                found.append(event)
            return len(found) >= wanted

        if wanted:
            eventually(read, what=f"{wanted} events are read")
    finally:
        consumer.close()
    return found


def waiting(settings: Settings) -> int:
    return int(value(settings, "SELECT count(*) FROM outbox"))


async def emptied(settings: Settings) -> None:
    async def empty() -> bool:
        return await asyncio.to_thread(waiting, settings) == 0

    await eventually_async(empty, what="the outbox is empty")


def stored_versions(settings: Settings) -> dict[str, int]:
    return {row["email"]: row["version"] for row in rows(settings, "SELECT email, version FROM users")}


async def test_a_commit_wakes_the_relay_and_what_is_confirmed_leaves_the_outbox(
    pipeline_settings: Settings, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks.outbox_relay, "ASK_EVERY_SECONDS", 3600)
    async with relaying(pipeline_settings) as relay:

        async def active() -> bool:
            return bool(relay.health()["turn"] == "active")

        await eventually_async(active, what="the relay has the turn")
        await create(client, "ada", "bob")
        await client.patch("/users/ada@example.org", json={"role": "admin"})
        await client.delete("/users/bob@example.org")
        await emptied(pipeline_settings)
        assert "problem" not in relay.health()
    last = {event.key: event for event in events(pipeline_settings)}
    assert {key: event.op for key, event in last.items()} == {"ada@example.org": "stored", "bob@example.org": "deleted"}
    assert last["ada@example.org"].version == stored_versions(pipeline_settings)["ada@example.org"]


async def test_the_events_of_a_key_come_in_order_and_in_one_partition(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    async with relaying(pipeline_settings):
        await create(client, "ada")
        for number in range(30):
            await client.patch("/users/ada@example.org", json={"role": f"role {number}"})
        await emptied(pipeline_settings)
    versions = [event.version for event in events(pipeline_settings)]
    assert versions == sorted(versions)
    assert versions[-1] == stored_versions(pipeline_settings)["ada@example.org"]
    ends = end_offsets(pipeline_settings, [pipeline_settings.named("users.changed")])
    assert sum(end > 0 for end in ends.values()) == 1


async def test_while_nobody_relays_a_key_has_one_entry_however_often_it_changes(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    await create(client, "ada")
    for number in range(20):
        await client.patch("/users/ada@example.org", json={"role": f"role {number}"})
    assert waiting(pipeline_settings) == 1
    async with relaying(pipeline_settings):
        await emptied(pipeline_settings)
    [event] = events(pipeline_settings)
    assert msgspec.json.decode(event.data)["role"] == "role 19"


async def test_an_entry_that_is_replaced_while_it_is_published_stays(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    await create(client, "ada", "bob")
    outbox = Outbox(pipeline_settings)
    try:
        entries = await outbox.next(10)
        assert [entry.key for entry in entries] == ["ada@example.org", "bob@example.org"]
        await client.patch("/users/ada@example.org", json={"role": "admin"})
        await outbox.remove(entries)
        assert [entry.version for entry in await outbox.next(10)] == [
            stored_versions(pipeline_settings)["ada@example.org"]
        ]
    finally:
        await outbox.close()


async def test_one_relay_works_and_another_takes_over_when_it_ends(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    async def has_turn(relay: OutboxRelay) -> bool:
        return bool(relay.health()["turn"] == "active")

    async with relaying(pipeline_settings) as second_to_end:
        await eventually_async(lambda: has_turn(second_to_end), what="the first has the turn")
        async with relaying(pipeline_settings) as standby:
            await create(client, "ada")
            await emptied(pipeline_settings)
            assert standby.health()["turn"] == "standby"
            assert standby.health()["records"] == 0
            second_to_end.stop()
            await eventually_async(lambda: has_turn(standby), what="the second takes over")
            await create(client, "bob")
            await emptied(pipeline_settings)

            async def counted() -> bool:
                return bool(standby.health()["records"] == 1)

            await eventually_async(counted, what="it was the second that published")
    assert sorted(event.key for event in events(pipeline_settings)) == ["ada@example.org", "bob@example.org"]


async def test_a_relay_that_is_killed_after_publishing_publishes_again_and_loses_nothing(
    pipeline_settings: Settings, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    names = [f"user{number}" for number in range(25)]
    await create(client, *names)
    versions = stored_versions(pipeline_settings)
    relay = Process("relay", pipeline_settings, tmp_path / "relay.log")
    relay.environment[VARIABLE] = "outbox_published"
    for crash in (1, 2):
        relay.start()
        await asyncio.to_thread(
            eventually, lambda: relay.exit_code == -signal.SIGKILL, what=f"it dies; log:\n{relay.log_tail()}"
        )
        assert waiting(pipeline_settings) == len(names), "nothing was marked"
        assert len(events(pipeline_settings)) == crash * len(names), "all was published"
    del relay.environment[VARIABLE]
    relay.start()
    try:
        await emptied(pipeline_settings)
    finally:
        assert await asyncio.to_thread(relay.stop) == 0
    published = events(pipeline_settings)
    assert len(published) == 3 * len(names)
    assert {(event.key, event.version) for event in published} == set(versions.items())


async def test_a_relay_whose_session_is_ended_goes_on_with_a_new_one(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with relaying(pipeline_settings) as relay:
            await create(client, "ada")
            await emptied(pipeline_settings)
            assert await asyncio.to_thread(value, pipeline_settings, END_THE_SESSION_WITH_THE_TURN) == 1
            await create(client, "bob")
            await emptied(pipeline_settings)
            assert relay.health()["state"] == "running"
    assert sum(line["event"] == "waiting_for_store" for line in logs) <= 1
    assert [event.key for event in events(pipeline_settings)][-1:]


async def test_a_relay_whose_session_ends_while_it_publishes_has_to_wait_for_its_turn_again(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    await create(client, "ada")
    first, second = Outbox(pipeline_settings), Outbox(pipeline_settings)
    try:
        published = await first.next(10)
        assert await asyncio.to_thread(value, pipeline_settings, END_THE_SESSION_WITH_THE_TURN) == 1

        async def ended() -> bool:
            return not first.has_turn

        await eventually_async(ended, what="the first has lost its session")
        assert await second.next(10) == published
        await first.remove(published)
        await create(client, "bob")
        assert not first.has_turn
        assert await first.next(10) == []
        assert [entry.key for entry in await second.next(10)] == ["bob@example.org"]
    finally:
        await first.close()
        await second.close()


async def test_with_kafka_redis_and_elasticsearch_away_users_are_created_and_are_everywhere_when_they_are_back(
    pipeline_settings: Settings, servers: Servers
) -> None:
    # A busy machine may take longer to start Elasticsearch again than floors are kept.
    settings = pipeline_settings.model_copy(update={"cache_floor_ttl_seconds": 600})
    away: tuple[ServerName, ...] = ("kafka", "redis", "elasticsearch")
    with structlog.testing.capture_logs() as logs:
        async with (
            api_client(settings) as client,
            search_server(settings) as search,
            relaying(settings) as relay,
            running(ElasticsearchSink(settings), settings),
            running(RedisInvalidationSink(settings), settings),
        ):
            assert (await client.get("/users/ada@example.org")).status_code == 404
            await create(client, "zero")
            await emptied(settings)
            try:
                for name in away:
                    await asyncio.to_thread(servers.stop, name)
                began = asyncio.get_running_loop().time()
                await create(client, *(f"user{number}" for number in range(20)), "ada")
                seconds = (asyncio.get_running_loop().time() - began) / 21
                changed = await client.patch("/users/ada@example.org", json={"role": "admin"})
                assert (await client.get("/users/ada@example.org")).json() == changed.json()
                assert (await client.delete("/users/user0@example.org")).status_code == 204
                found = (await client.get("/users?q=ada")).json()
                assert (found["data"], found["degraded"]) == ([changed.json()], True)

                async def held_up() -> bool:
                    return "Kafka" in str(relay.health().get("problem"))

                await eventually_async(held_up, what="the relay says who holds it up")
                assert await asyncio.to_thread(waiting, settings) == 21
            finally:
                await asyncio.to_thread(servers.start, "redis")
                async with Redis.from_url(str(settings.plain_redis_url)) as redis:
                    # As a reader who asks before the events come: Redis keeps versions only where somebody reads.
                    await VersionedCache(redis, settings).get_or_lease("users", "ada@example.org")
                for name in away:
                    await asyncio.to_thread(servers.start, name)
            assert seconds < 0.5, "nobody waited for what was away"
            await emptied(settings)
            versions = await asyncio.to_thread(stored_versions, settings)

            async def documents() -> Mapping[str, int]:
                alias = alias_name(USERS, settings)
                await search.ask("POST", f"/{alias}/_refresh")
                hits = await search.ask("POST", f"/{alias}/_search", {"size": 100, "version": True})
                return {hit["_id"]: hit["_version"] for hit in hits["hits"]["hits"]}

            async def all_indexed() -> bool:
                return await documents() == versions

            await eventually_async(all_indexed, what="every user is in the index, in his last version")

            async with Redis.from_url(str(settings.plain_redis_url)) as redis:
                entry = VersionedCache(redis, settings).entry("users", "ada@example.org")

                async def floor() -> bool:
                    return await redis.hget(entry, "floor") == b"%d" % versions["ada@example.org"]

                await eventually_async(floor, what="the cache knows the last version")
            assert (await client.get("/users/ada@example.org")).json() == changed.json()
            assert "problem" not in relay.health()
            await drop_indices(search, settings)
    from_relay = [line["event"] for line in logs if line.get("sink") == "relay"]
    assert from_relay == ["waiting_for_store", "store_is_back"]


async def test_an_event_that_comes_late_does_not_bring_a_deleted_user_back(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    settings = pipeline_settings
    async with (
        search_server(settings) as search,
        relaying(settings),
        running(ElasticsearchSink(settings), settings),
        running(RedisInvalidationSink(settings), settings),
    ):

        async def indexed(key: str) -> bool:
            found = await search.ask("POST", f"/{alias_name(USERS, settings)}/_mget", {"ids": [key]})
            return bool(found["docs"][0].get("found"))

        async def gone() -> bool:
            return not await indexed("ada@example.org")

        await create(client, "ada")
        await eventually_async(lambda: indexed("ada@example.org"), what="the user is indexed")
        [created] = await asyncio.to_thread(events, settings)
        assert (await client.delete("/users/ada@example.org")).status_code == 204
        await eventually_async(gone, what="the index has forgotten the user")
        publish(settings, "users.changed", (created.key, msgspec.json.encode(created)))

        async def taken() -> bool:
            return not sum(row.lag for row in await read_lag(settings) if row.topic == settings.named("users.changed"))

        await eventually_async(taken, what="both sinks have taken the late event")
        assert await gone()
        assert (await client.get("/users/ada@example.org")).status_code == 404
        await drop_indices(search, settings)


async def test_for_the_deep_audit_what_the_outbox_holds_is_on_its_way(
    pipeline_settings: Settings, client: httpx.AsyncClient
) -> None:
    settings = pipeline_settings
    engine = postgres_engine(settings)
    async with search_server(settings) as search:
        await ensure_indices(search, settings)
        store = Documents(search, settings)

        async def audited(wait: float) -> StoreAudit:
            arrived = partial(caught_up, settings, engine, USERS, store.group)
            return await audit_store(Rows(engine), store, USERS, arrived, wait, lambda _: None)

        try:
            await create(client, "ada", "bob", "eve")
            unpublished = await audited(0)
            async with relaying(settings):
                await emptied(settings)
            unread = await audited(0)
            async with running(ElasticsearchSink(settings), settings):
                done = await audited(30)
        finally:
            await engine.dispose()
            await drop_indices(search, settings)
    for result in (unpublished, unread):
        assert (result.compared, result.differences, result.in_flight) == (3, {}, 3)
    assert (done.compared, done.differences, done.in_flight) == (3, {}, 0)


async def test_a_user_whom_the_index_refuses_is_a_failure_with_his_content(pipeline_settings: Settings) -> None:
    bad = ChangeEvent("x@example.org", "stored", 7, data=msgspec.Raw(b'{"name":{"first":"X"},"email":"x@example.org"}'))
    publish(pipeline_settings, "users.changed", ("x@example.org", msgspec.json.encode(bad)))
    async with running(ElasticsearchSink(pipeline_settings), pipeline_settings):

        async def reported() -> bool:
            ends = await asyncio.to_thread(end_offsets, pipeline_settings, [pipeline_settings.named("failures")])
            return sum(ends.values()) == 1

        await eventually_async(reported, what="the failure is published")
    consumer = Consumer({"bootstrap.servers": pipeline_settings.kafka_bootstrap_servers, "group.id": "r",
                         "auto.offset.reset": "earliest", "log_level": QUIET})  # fmt: skip
    consumer.subscribe([pipeline_settings.named("failures")])
    try:
        [message] = consumer.consume(1, 20)
        failed = msgspec.json.decode(message.value() or b"", type=FailedRecord)
    finally:
        consumer.close()
    assert (failed.dataset, failed.key, failed.reason) == ("users", "x@example.org", "elasticsearch_refused")
    assert (failed.origin.topic, failed.origin.partition, failed.origin.offset) == ("users.changed", -1, 7)
    assert failed.payload == bytes(bad.data)
    async with search_server(pipeline_settings) as search:
        await drop_indices(search, pipeline_settings)
