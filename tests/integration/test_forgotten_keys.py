"""Records of forgotten keys in the sinks: they count as deleted and leave nothing, whatever way they come."""

import asyncio

import pytest
from pydantic import SecretStr

from runtime.errors import Backpressure
from runtime.settings import Settings
from schemas.mentions import Name
from schemas.registry import dataset_named
from services.forgetting.forget import CannotForget, forget, forgotten_list, secrets_needed, undo
from sinks.landing import LandingSink
from stores.forgotten import LOCK_LIST, ForgottenKeys, hash_of, secret_id
from tests.integration.postgres_sink_driver import Driver, changes, customer, driver, failed, order
from tests.integration.sink_events import publish, running
from tests.waiting import eventually_async


async def put_on_list(settings: Settings, connection: object, key: str, dataset: str = "customers") -> None:
    assert settings.forget_secret is not None
    secret = settings.forget_secret.get_secret_value().encode()
    await connection.execute(  # type: ignore[attr-defined]
        "INSERT INTO forgotten (hash, dataset, secret) VALUES ($1, $2, $3)",
        hash_of(Name(dataset, key), secret), dataset, secret_id(secret),
    )  # fmt: skip


async def test_records_of_a_forgotten_key_count_as_deleted_and_others_go_through(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await put_on_list(migrated_settings, postgres.connection, "C1")
        outgoing = await postgres.write(customer("C1", 0), customer("C2", 1))
        assert set(changes(outgoing)) == {"C2"}
        assert await postgres.row("C1") is None
        assert await postgres.row("C2") is not None
        assert await postgres.counts() == {"inserted": 1, "deleted": 1}
        assert await postgres.covered() == "{[0,2)}"
        assert changes(await postgres.write(customer("C1", 0))) == {}, "a repeat says nothing either"
        assert await postgres.counts() == {"inserted": 1, "deleted": 1}


async def test_orders_of_a_forgotten_customer_count_as_deleted(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await put_on_list(migrated_settings, postgres.connection, "CUST001")
        await postgres.write(order("O1", 0), order("O2", 1, customer_id="CUST002"))
        assert [row["order_id"] for row in await postgres.connection.fetch("SELECT order_id FROM orders")] == ["O2"]
        assert await postgres.counts() == {"inserted": 1, "deleted": 1}


async def test_failures_of_a_forgotten_key_are_kept_nowhere(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await put_on_list(migrated_settings, postgres.connection, "CUST001")
        await postgres.write(
            failed("CUST001", 0, b"{}"),
            failed(None, 1, b"CUST001;Ada"),
            failed("O1", 0, b'{"Customer": "CUST001"}', "orders"),
            failed("CUST001", 2, b"{}", held=True),
            failed("CUST002", 3, b"{}"),
        )
        assert await postgres.failures() == [("CUST002", "required")]
        assert await postgres.counts() == {"deleted": 4, "failed": 1}


async def test_a_reprocessed_record_of_a_forgotten_key_stays_away(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(failed("C1", 0, b"{}"))
        await put_on_list(migrated_settings, postgres.connection, "C1")
        again = customer("C1", 0)
        again = type(again)(again.key, again.origin, again.data, "api", "api", None, (), "job1")
        await postgres.write(again)
        assert await postgres.row("C1") is None
        books = await postgres.connection.fetch("SELECT topic, deleted, failed FROM coverage ORDER BY topic")
        assert [(row["deleted"], row["failed"]) for row in books] == [(1, 0), (1, 0)]


async def test_an_undone_key_lives_again(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await put_on_list(migrated_settings, postgres.connection, "C1")
        await postgres.write(customer("C1", 0))
        assert await postgres.row("C1") is None
        await postgres.connection.execute("UPDATE forgotten SET undone_at = clock_timestamp()")
        await postgres.write(customer("C1", 1))
        assert await postgres.row("C1") is not None
        await postgres.connection.execute("UPDATE forgotten SET undone_at = NULL, forgotten_at = clock_timestamp()")
        await postgres.write(customer("C1", 2))
        assert await postgres.counts() == {"inserted": 1, "deleted": 2}


@pytest.mark.parametrize("secret", [None, SecretStr("another secret of thirty-two or more")])
async def test_with_another_secret_nothing_is_stored_until_the_right_one_is_set(
    migrated_settings: Settings, secret: SecretStr | None
) -> None:
    other = migrated_settings.model_copy(update={"forget_secret": secret})
    async with driver(migrated_settings) as postgres:
        await put_on_list(migrated_settings, postgres.connection, "C1")
        mistaken = Driver(other, postgres.connection)
        with pytest.raises(Backpressure, match="FORGET_SECRET"):
            await mistaken.write(customer("C2", 0))
        assert await postgres.row("C2") is None
        await postgres.write(customer("C2", 0))
        assert await postgres.row("C2") is not None


async def test_raw_records_of_a_forgotten_key_do_not_land(pipeline_settings: Settings) -> None:
    async with driver(pipeline_settings) as postgres, running(LandingSink(pipeline_settings), pipeline_settings):
        await put_on_list(pipeline_settings, postgres.connection, "CUST001")
        publish(
            pipeline_settings,
            "customers.raw",
            ("CUST001", b'{"customer_id": "CUST001"}'),
            (None, b"CUST001,Ada"),
            ("CUST001", None),
            ("CUST002", b'{"customer_id": "CUST002"}'),
        )
        publish(pipeline_settings, "orders.raw", ("O1", b'{"Customer": "CUST001"}'), ("O2", b"{}"))

        async def landed() -> bool:
            rows = await postgres.connection.fetch("SELECT key FROM raw_api_data")
            return {row["key"] for row in rows} == {"CUST002", "O2"}

        await eventually_async(landed, what="the two others have landed, and nothing else")


async def test_whoever_forgets_waits_for_a_sink_that_has_looked_at_the_list(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres, driver(migrated_settings) as other:

        async def begin() -> None:
            async with other.connection.transaction():
                await other.connection.execute(LOCK_LIST)
                await put_on_list(migrated_settings, other.connection, "C1")

        async with driver(migrated_settings) as looking:

            async def waits() -> bool:
                held_up = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'forgotten'::regclass"
                return bool(await looking.connection.fetchval(held_up) == 1)

            async with postgres.connection.transaction():
                assert await ForgottenKeys(migrated_settings.forget_secrets).open(postgres.connection) is None
                forgetting = asyncio.create_task(begin())
                await eventually_async(waits, what="it waits for the end of the sink's transaction")
                assert not forgetting.done()
            await forgetting
        await postgres.write(customer("C1", 0))
        assert await postgres.row("C1") is None


async def test_a_line_of_which_nobody_can_read_the_key_is_known_by_the_address_in_it(
    pipeline_settings: Settings,
) -> None:
    """It has a cell too many, say; of the address a hash is kept, and no more."""
    settings = pipeline_settings
    line, other = b"x;C1;Ada;Lovelace;one@x.io;too;many", b"x;C2;Bob;Builder;two@x.io;too;many"
    async with driver(settings) as postgres:
        await postgres.write(customer("C1", 0, email="one@x.io"), failed(None, 1, line), failed(None, 2, other))
        done = await forget(settings, dataset_named("customers"), "C1", dry_run=False, wait=0)
        assert (done.erased["ingest_failures"], done.left) == (1, {})
        kept = "SELECT count(*) FROM forgotten_addresses a WHERE a::text ~ 'one'"
        assert await postgres.connection.fetchval(kept) == 0
        await forget(settings, dataset_named("customers"), "C1", dry_run=False, wait=0)  # whose row has gone
        await postgres.write(failed(None, 3, line), failed(None, 4, other))
        payloads = "SELECT payload FROM ingest_failures ORDER BY id"
        assert [row["payload"] for row in await postgres.connection.fetch(payloads)] == [other, other]
        assert (await postgres.counts())["deleted"] == 1
        async with running(LandingSink(settings), settings):
            publish(settings, "customers.raw", (None, line), (None, other))

            async def landed() -> bool:
                rows = await postgres.connection.fetch("SELECT payload FROM raw_api_data")
                return [row["payload"] for row in rows] == [other]

            await eventually_async(landed, what="the other line has landed, and nothing else")
        await undo(settings, done.hash)
        await postgres.write(failed(None, 5, line))
        assert len(await postgres.connection.fetch(payloads)) == 3


async def test_the_secret_may_be_replaced_as_long_as_the_old_one_is_still_known(migrated_settings: Settings) -> None:
    customers = dataset_named("customers")
    old, new = migrated_settings, "a newer secret of thirty-two or more"
    assert len(old.forget_secrets) == 1, "of a secret with a comma in it the parts are too short"
    first, rotated, hasty = (
        old.model_copy(update={"forget_secret": SecretStr(secrets)})
        for secrets in (new[::-1], f"{new}, {new[::-1]}", new)
    )
    async with driver(old) as postgres:
        made = await forget(first, customers, "C1", dry_run=False, wait=0)
        other = await forget(rotated, customers, "C2", dry_run=False, wait=0)
        assert made.hash == hash_of(Name("customers", "C1"), new[::-1].encode())
        assert other.hash == hash_of(Name("customers", "C2"), new.encode())
        again = await forget(rotated, customers, "C1", dry_run=False, wait=0)
        assert again.hash == made.hash, "one person has one entry, so that it can be undone"
        sink = Driver(rotated, postgres.connection)
        await sink.write(customer("C1", 0), customer("C2", 1), customer("C3", 2))
        assert await sink.counts() == {"deleted": 2, "inserted": 1}
        with pytest.raises(Backpressure, match="FORGET_SECRET"):
            await Driver(hasty, postgres.connection).write(customer("C4", 3))
        with pytest.raises(CannotForget, match="FORGET_SECRET"):
            await forget(hasty, customers, "C5", dry_run=False, wait=0)
        rows = await forgotten_list(rotated)
        assert {row["hash"]: row["made_by"] for row in rows} == {made.hash: 2, other.hash: 1}
        told = [f"Secret {place} of FORGET_SECRET: 1 hashes that count" for place in (1, 2)]
        assert secrets_needed(rotated, rows) == told
        [_, lacking] = secrets_needed(hasty, await forgotten_list(hasty))
        assert lacking.startswith("NOT in FORGET_SECRET: the secret of 1 hashes")
        await undo(rotated, made.hash)
        assert secrets_needed(rotated, await forgotten_list(rotated))[1].endswith("; it may be taken out")
        assert len(secrets_needed(hasty, await forgotten_list(hasty))) == 1
        await Driver(hasty, postgres.connection).write(customer("C1", 4))
        assert await postgres.row("C1") is not None


async def test_nobody_else_loses_anything_when_a_short_key_is_forgotten(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(customer("17", 0), customer("18", 1), failed("18", 2, b'{"age": 17}', message="17 of 17"))
        await postgres.connection.execute(
            "INSERT INTO etl_runs (run_id, source, dataset, trigger, status, started_at, failure_reason)"
            " VALUES ('r', 's', 'customers', 't', 'failed', now(), '17 records')"
        )
        dataset = dataset_named("customers")
        done = await forget(migrated_settings, dataset, "17", dry_run=False, wait=0)
        assert {table: rows for table, rows in done.erased.items() if rows} == {"customers": 1}
        assert done.left == {}
        assert await postgres.row("18") is not None
        assert await postgres.connection.fetchval("SELECT message FROM ingest_failures") == "17 of 17"


async def test_others_keep_their_failures_but_for_what_these_say_of_the_person(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.write(customer("CUST001", 0, email="ada@example.org"))
        await postgres.write(customer("CUST002", 1, email="ada@example.org"))
        assert await postgres.failures() == [("CUST002", "email_conflict")]
        await forget(migrated_settings, dataset_named("customers"), "CUST001", dry_run=False, wait=0)
        [row] = await postgres.connection.fetch("SELECT key, message, blocked_by, claim FROM ingest_failures")
        assert (row["key"], row["message"], row["blocked_by"]) == ("CUST002", "(erased)", None)
        assert row["claim"] is not None
        await postgres.write(customer("CUST003", 2))
        assert (await postgres.row("CUST002"))["email"] == "ada@example.org", "who waited for the address has it now"
