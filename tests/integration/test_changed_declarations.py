"""A declaration that has changed since its table was made. Here the table is changed instead: it comes to the same."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import msgspec
import pytest
import typer
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from commands.audit import verdict
from commands.setup import setup
from monitoring.lag import read_lag
from runtime.settings import Settings
from schemas.events import CleanRecord
from services.audits.audit import audit
from sinks.postgres.sink import PostgresSink
from stores.migrate import migrate
from stores.postgres_engine import postgres_engine
from stores.set_up_report import SetUpReport
from tests.integration.api_client import CUSTOMERS, RECORDS, api_client, store
from tests.integration.api_client import customer as stored_customer
from tests.integration.api_client import record as stored_record
from tests.integration.postgres_sink_driver import customer, order
from tests.integration.sink_events import publish, running
from tests.integration.test_migrations import differences
from tests.waiting import eventually_async


async def set_up(settings: Settings) -> SetUpReport:
    return await asyncio.to_thread(migrate, settings)


ROW = """INSERT INTO customers (customer_id, first_name, last_name, email, phone, account_balance, search_text,
    version, raw_partition, raw_offset, raw_timestamp)
    VALUES ('C1', 'A', 'L', 'c1@example.org', '+491', 12.5, '', 1, 0, 0, 0)"""

SAFE = {
    "ALTER TABLE customers DROP COLUMN phone": ["customers.phone: added as VARCHAR(20)"],
    "ALTER TABLE customers DROP COLUMN phone, DROP COLUMN address": [
        "customers.phone: added as VARCHAR(20)",
        "customers.address: added as TEXT",
    ],
    "ALTER TABLE customers ALTER first_name TYPE varchar(60)": [
        "customers.first_name: VARCHAR(60) is now VARCHAR(100)"
    ],
    "ALTER TABLE customers ALTER address TYPE varchar(60)": ["customers.address: VARCHAR(60) is now TEXT"],
    "ALTER TABLE customers ALTER account_balance TYPE numeric(9, 2)": [
        "customers.account_balance: NUMERIC(9, 2) is now NUMERIC(15, 2)"
    ],
    "ALTER TABLE customers ALTER account_balance TYPE numeric(12, 1)": [
        "customers.account_balance: NUMERIC(12, 1) is now NUMERIC(15, 2)"
    ],
    "UPDATE customers SET phone = ''; ALTER TABLE customers ALTER phone SET NOT NULL": [
        "customers.phone: may be absent now"
    ],
    "DROP INDEX ix_orders_product": ["orders: an index on product"],
    "DROP INDEX ix_orders_raw_moves": ["orders: an index on raw_moves"],
}


async def test_set_up_widens_a_table(migrated_settings: Settings, postgres: Any) -> None:
    await postgres.execute(ROW)
    for before, lines in SAFE.items():
        await postgres.execute(before)
        reports = await asyncio.gather(*(set_up(migrated_settings) for _ in range(3)))
        assert sorted(line for report in reports for line in report.changes) == sorted(lines), "by one of them"
        assert all(not report.misfits and not report.remarks for report in reports)
    assert await postgres.fetchval("SELECT count(*) FROM customers") == 1
    engine = postgres_engine(migrated_settings)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


REFUSED = {
    "ALTER TABLE customers DROP COLUMN last_name": "customers.last_name: declared VARCHAR(100) and required",
    "ALTER TABLE customers ALTER phone TYPE int USING 1": "customers.phone: declared VARCHAR(20), and the table",
    "ALTER TABLE customers ALTER date_of_birth TYPE timestamptz": "customers.date_of_birth: declared DATE",
    # As many digits in all, and fewer before the point.
    "ALTER TABLE customers ALTER account_balance TYPE numeric(15, 4)": "customers.account_balance: declared",
    "ALTER TABLE customers ALTER phone TYPE point USING NULL": (
        "customers.phone: declared VARCHAR(20), and the table has a type of its own; declare it as it was"
    ),
    "ALTER TABLE customers DROP phone, ADD phone varchar(20) GENERATED ALWAYS AS (email) STORED": (
        "customers.phone: the table makes its values itself"
    ),
    "ALTER TABLE customers ADD loyalty int NOT NULL": "customers.loyalty: not declared, and the table has a column of",
    "ALTER TABLE customers DROP CONSTRAINT uq_customers_email": "customers: email is declared unique, and in the table",
    "ALTER TABLE customers DROP CONSTRAINT uq_customers_email, ADD CONSTRAINT x UNIQUE (email)": (
        "customers: email is kept unique by x, which is not deferrable, so that records cannot swap values; write a "
        "migration that replaces it by the constraint uq_customers_email, deferrable"
    ),
    "CREATE UNIQUE INDEX x ON customers (email)": "customers: email is kept unique by x, which is not deferrable",
    "ALTER TABLE customers DROP CONSTRAINT pk_customers, ADD CONSTRAINT x PRIMARY KEY (customer_id) DEFERRABLE": (
        "customers: customer_id is kept unique by x, which is deferrable, as no upsert takes"
    ),
    "CREATE UNIQUE INDEX x ON customers (lower(address))": "customers: lower(address) is unique in the table",
    "ALTER TABLE customers ADD CONSTRAINT x UNIQUE (phone)": "customers: phone is unique in the table",
    "CREATE UNIQUE INDEX x ON customers (phone, email)": "customers: email + phone is unique in the table",
    "ALTER TABLE customers DROP CONSTRAINT pk_customers, ADD PRIMARY KEY (email)": "customers: the declared key is",
    "ALTER TABLE customers ALTER first_name TYPE varchar(60); CREATE VIEW v AS SELECT first_name FROM customers": (
        "customers: Postgres refuses a change (customers.first_name: VARCHAR(60) is now VARCHAR(100)): cannot alter"
    ),
}


async def test_a_change_that_needs_a_migration_is_refused_and_the_other_datasets_are_set_up(
    migrated_settings: Settings, postgres: Any
) -> None:
    for before, line in REFUSED.items():
        await postgres.execute(before)
        await postgres.execute("ALTER TABLE orders ALTER product TYPE varchar(20)")
        report = await set_up(migrated_settings)
        assert report.misfits["customers"].startswith(line)
        assert set(report.misfits) == {"customers"}
        assert report.changes == ["orders.product: VARCHAR(20) is now VARCHAR(200)"]
        await remade(migrated_settings, postgres)


async def test_an_index_that_could_not_be_built_to_its_end_is_no_misfit(
    migrated_settings: Settings, postgres: Any
) -> None:
    await postgres.execute(ROW)
    await postgres.execute(ROW.replace("C1", "C2").replace("c1@", "c2@"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await postgres.execute("CREATE UNIQUE INDEX CONCURRENTLY x ON customers (first_name)")
    assert not (await set_up(migrated_settings)).misfits


async def test_an_index_of_that_name_on_something_else_is_told_and_stops_nothing(
    migrated_settings: Settings, postgres: Any
) -> None:
    await postgres.execute("DROP INDEX ix_orders_product; CREATE INDEX ix_orders_product ON orders (quantity)")
    report = await set_up(migrated_settings)
    assert (report.changes, report.misfits) == ([], {})
    [remark] = report.remarks
    assert remark.startswith("orders: an index on product is declared, and ix_orders_product is another one")


IN_ITS_PLACE = {
    "view": "DROP TABLE customers; CREATE VIEW customers AS SELECT 1 AS n",
    "materialized view": "DROP TABLE customers; CREATE MATERIALIZED VIEW customers AS SELECT 1 AS n WITH NO DATA",
    "sequence": "DROP TABLE customers; CREATE SEQUENCE customers",
    "type": "DROP TABLE customers; CREATE TYPE customers AS (n int)",
    "table of another name with the constraints": "ALTER TABLE customers RENAME TO old",
}


async def test_what_is_in_the_place_of_a_table_holds_up_its_dataset_alone(
    migrated_settings: Settings, postgres: Any
) -> None:
    await store(migrated_settings, RECORDS, [stored_record("titanic", "1", "Ada")])
    settings = migrated_settings.model_copy(update={"elasticsearch_url": None, "redis_url": None})
    for name, statements in IN_ITS_PLACE.items():
        await postgres.execute(f"BEGIN; {statements}; ALTER TABLE orders ALTER product TYPE varchar(20); COMMIT")
        report = await set_up(settings)
        assert set(report.misfits) == {"customers"}, name
        line = report.misfits["customers"]
        assert line.startswith("customers: Postgres refuses to make the table customers: relation "), name
        assert line.endswith(" already exists; rename or drop what is in its place"), name
        assert report.changes == ["orders.product: VARCHAR(20) is now VARCHAR(200)"]
        async with api_client(settings) as client:
            for path in ("/api/customers", "/datasets/customers/C1", "/search?q=ada&dataset=customers"):
                assert (await client.get(path)).status_code == 503, (name, path)
            health = (await client.get("/api/health")).json()
            assert "the table customers is not there; run `headrace setup`" in health["misfits"]["customers"]
            found = (await client.get("/search?q=ada")).json()
            assert [hit["dataset"] for hit in found["data"]] == ["records"], name
            assert found["left_out"] == ["customers"], name
        for kind in ("VIEW", "MATERIALIZED VIEW", "SEQUENCE", "TYPE"):
            with suppress(asyncpg.WrongObjectTypeError, asyncpg.DependentObjectsStillExistError):
                await postgres.execute(f"DROP {kind} IF EXISTS customers")
        await postgres.execute("DROP TABLE IF EXISTS old")
        assert (await set_up(settings)).changes == ["customers: the table customers was made"]


async def remade(settings: Settings, postgres: Any) -> None:
    await postgres.execute("DROP TABLE customers CASCADE")
    assert (await set_up(settings)).changes == ["customers: the table customers was made"]


WIDER = {
    "ALTER TABLE customers ADD loyalty int": "customers.loyalty: not declared, and the table keeps",
    "ALTER TABLE customers ADD place point": "customers.place: not declared, and the table keeps its column of a type",
    "ALTER TABLE customers ADD loyalty int NOT NULL DEFAULT 3": "customers.loyalty: not declared",
    "ALTER TABLE customers ALTER first_name TYPE text": "customers.first_name: declared VARCHAR(100)",
    "ALTER TABLE customers ALTER account_balance TYPE numeric(20, 4)": "customers.account_balance: declared",
    "ALTER TABLE customers ALTER first_name DROP NOT NULL": "customers.first_name: declared as required",
    "CREATE INDEX x ON customers (lower(email)); ALTER TABLE customers ADD loyalty int": "customers.loyalty",
}


async def test_a_table_that_is_wider_fits_so_that_a_deploy_can_be_rolled_back(
    migrated_settings: Settings, postgres: Any
) -> None:
    for before, line in WIDER.items():
        await postgres.execute(before)
        report = await set_up(migrated_settings)
        assert report.misfits == {}
        assert report.changes == []
        [remark] = report.remarks
        assert remark.startswith(line)
        await remade(migrated_settings, postgres)


def clean(settings: Settings, record: CleanRecord) -> tuple[str, bytes]:
    """The record as the normalizer publishes it."""
    origin = msgspec.structs.replace(record.origin, topic=settings.named(record.origin.topic))
    return record.key, msgspec.json.encode(msgspec.structs.replace(record, origin=origin))


async def test_a_dataset_that_does_not_fit_is_paused_alone_and_goes_on_once_it_fits(
    pipeline_settings: Settings, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pipeline_settings
    monkeypatch.setattr("sinks.runner.SET_UP_AGAIN_SECONDS", 0.5)
    topic = settings.named("customers.clean")

    async def stored(customers: int, orders: int) -> bool:
        counts = "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders)"
        return tuple(await postgres.fetchrow(counts)) == (customers, orders)

    async def behind() -> int:
        return sum(row.lag for row in await read_lag(settings) if row.group == settings.named("sink-postgres"))

    async def send(start: int) -> None:
        numbers = range(start, start + 10)
        publish(settings, "customers.clean", *(clean(settings, customer(f"C{n}", n)) for n in numbers))
        publish(settings, "orders.clean", *(clean(settings, order(f"O{n}", n)) for n in numbers))

    await postgres.execute("ALTER TABLE customers RENAME last_name TO surname")
    await send(0)
    async with running(PostgresSink(settings), settings) as runner:
        await eventually_async(lambda: stored(0, 10), what="orders are stored, customers are not")
        await send(10)
        await eventually_async(lambda: stored(0, 20), what="orders go on")
        assert list(runner.health()["paused"]) == [topic]
        assert "customers.last_name: declared" in runner.health()["paused"][topic]
        assert "problem" not in runner.health()
        await eventually_async(lambda: _is(behind(), 20), what="of customers nothing is committed")

        await postgres.execute("ALTER TABLE customers RENAME surname TO last_name")
        await eventually_async(lambda: stored(20, 20), what="customers go on by themselves")
        await eventually_async(lambda: _is(behind(), 0), what="all is committed")
        assert "paused" not in runner.health()

        # Now under way: a write finds it out, whose batch is read again.
        await postgres.execute("ALTER TABLE customers RENAME last_name TO surname")
        for start in (20, 30, 40):
            await send(start)
            await eventually_async(lambda start=start: stored(20, start + 10), what="orders go on")  # type: ignore[misc]
        assert list(runner.health()["paused"]) == [topic]
        await postgres.execute("ALTER TABLE customers RENAME surname TO last_name")
        await eventually_async(lambda: stored(50, 50), what="customers go on by themselves")
        await eventually_async(lambda: _is(behind(), 0), what="all is committed")
    outcomes = "SELECT sum(inserted)::int, sum(failed)::int, sum(unchanged)::int FROM coverage"
    assert tuple(await postgres.fetchrow(outcomes)) == (100, 0, 0)


async def test_a_nullable_field_that_is_added_while_records_flow_loses_nothing(
    pipeline_settings: Settings, postgres: Any
) -> None:
    settings = pipeline_settings
    await postgres.execute("ALTER TABLE customers DROP COLUMN phone")

    def of_before(key: str, value: bytes) -> tuple[str, bytes]:
        return key, value.replace(b'"phone":null,', b"")

    def send(start: int, *, before: int) -> None:
        """A hundred records, of which the normalizer has written so many in the earlier form."""
        messages = [clean(settings, customer(f"C{n}", n)) for n in range(start, start + 100)]
        publish(settings, "customers.clean", *(of_before(*one) for one in messages[:before]), *messages[before:])

    async def flow(first: int) -> None:
        for start in range(first, first + 1000, 100):
            await asyncio.to_thread(send, start, before=100 if start < 700 else 50 if start < 1500 else 0)

    async with running(PostgresSink(settings), settings):
        flowing = asyncio.create_task(flow(0))
        await eventually_async(
            lambda: postgres.fetchval("SELECT count(*) > 200 FROM customers"), what="some are stored"
        )
    await flowing
    flowing = asyncio.create_task(flow(1000))
    async with running(PostgresSink(settings), settings):
        await flowing
        await eventually_async(
            lambda: postgres.fetchval("SELECT count(*) = 2000 FROM customers"), what="all are stored"
        )
    books = await postgres.fetchrow("SELECT ranges::text, inserted, failed FROM coverage")
    assert tuple(books) == ("{[0,2000)}", 2000, 0)


async def _is(number: Any, expected: int) -> bool:
    return bool(await number == expected)


async def test_reads_of_a_dataset_that_does_not_fit_are_a_503_and_others_are_answered(
    migrated_settings: Settings, postgres: Any
) -> None:
    await store(migrated_settings, RECORDS, [stored_record("titanic", "1", "Ada")])
    await store(migrated_settings, CUSTOMERS, [stored_customer(1)])
    await postgres.execute("ALTER TABLE customers DROP COLUMN phone")
    away = migrated_settings.model_copy(update={"elasticsearch_url": None})
    async with api_client(away) as client:
        for path in (
            "/api/customers",
            "/api/customers/CUST001",
            "/datasets/customers",
            "/search?q=ada&dataset=customers",
        ):
            answer = await client.get(path)
            assert answer.status_code == 503, path
            problem = answer.json()
            assert problem["type"] == "urn:headrace:problem:table-misfit"
            assert "customers.phone does not exist" in problem["detail"]
            assert "`headrace setup`" in problem["detail"]
            assert answer.headers["retry-after"] == "60"
        assert (await client.get("/data")).json()["total"] == 1
        health = (await client.get("/api/health")).json()
        assert health["status"] == "degraded"
        assert health["misfits"] == {"customers": "customers.phone: not in the table yet; run `headrace setup`"}
        found = (await client.get("/search?q=ada")).json()
        assert [hit["dataset"] for hit in found["data"]] == ["records"]
        assert found["left_out"] == ["customers"]
        await set_up(migrated_settings)
        assert (await client.get("/api/customers/CUST001")).json()["phone"] is None
        assert (await client.get("/search?q=ada")).json().get("left_out") is None


def test_the_setup_command_tells_its_changes_and_its_refusals(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pipeline_settings.model_copy(update={"elasticsearch_url": None})
    monkeypatch.setattr("commands.setup.load_settings", lambda: settings)
    monkeypatch.setattr("commands.setup.make_raw_file", lambda: False)

    async def execute(*statements: str) -> None:
        connect: Any = asyncpg.connect
        connection = await connect(settings.plain_database_url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(execute("ALTER TABLE customers DROP COLUMN phone", "ALTER TABLE orders DROP COLUMN product"))
    command = typer.Typer()
    command.command()(setup)
    for first in (True, False):
        refused = CliRunner().invoke(command, [])
        assert refused.exit_code == 1
        told = " ".join(refused.output.split())
        assert "REFUSED: orders.product: declared VARCHAR(200) and required" in told
        assert "orders cannot be stored as declared" in told
        assert ("customers.phone: added as VARCHAR(20)" in told) is first
    assert CliRunner().invoke(command, ["--go-on"]).exit_code == 0


async def test_a_topic_whose_dataset_is_declared_no_more_still_counts_in_the_audit(
    pipeline_settings: Settings, postgres: Any
) -> None:
    topic = pipeline_settings.named("gone.raw")
    admin = AdminClient({"bootstrap.servers": pipeline_settings.kafka_bootstrap_servers})
    await asyncio.to_thread(admin.create_topics([NewTopic(topic, 1, 1)])[topic].result)
    publish(pipeline_settings, "gone.raw", ("A", b"1"), ("B", b"2"))
    await postgres.execute(
        "INSERT INTO coverage (topic, partition, ranges, inserted) VALUES ($1, 0, '{[0,1)}', 1)", topic
    )
    engine = postgres_engine(pipeline_settings)
    rows = await audit(pipeline_settings, engine)
    await engine.dispose()
    [gone] = [row for row in rows if not row.declared]
    assert (gone.topic, gone.covered, gone.in_flight, gone.clean) == (topic, 1, 1, True)
    assert f"of datasets that are declared no more: {topic}" in verdict(rows)
    admin.delete_topics([topic])[topic].result()
