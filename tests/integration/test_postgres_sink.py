"""The Postgres sink's promises, one by one, on a real Postgres."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime.failure_limit import FailureLimitReached
from runtime.settings import Settings
from schemas.events import FailedRecord, Origin
from sinks.postgres.batch import Batch
from sinks.postgres.connection import DatasetMisfit
from tests.integration.postgres_sink_driver import Driver, changes, customer, driver, failures, record


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as running:
        yield running


async def test_a_new_record_is_inserted_and_announced_with_its_row(sink: Driver) -> None:
    events = changes(await sink.write(customer("C1", 0, address="Søgade 1\\2")))
    row = await sink.row("C1")
    assert (row["first_name"], row["address"], str(row["account_balance"])) == ("Ada", "Søgade 1\\2", "12.50")
    assert row["search_text"] == "ada lovelace c1@example.org søgade 1\\2"
    assert row["created_at"] is not None
    assert row["updated_at"] is None
    event = events["C1"]
    data = msgspec.json.decode(event.data)
    assert event.version == row["version"]
    assert data["account_balance"] == "12.50"
    assert data["created_at"] == row["created_at"].isoformat().replace("+00:00", "Z")
    assert data["updated_at"] is None
    assert await sink.counts() == {"inserted": 1}
    assert await sink.covered() == "{[0,1)}"


async def test_a_batch_delivered_twice_changes_and_counts_nothing_but_is_announced_again(sink: Driver) -> None:
    batch = [customer(f"C{n}", n) for n in range(10)]
    first = changes(await sink.write(*batch))
    before = [dict(await sink.row(f"C{n}")) for n in range(10)]
    second = changes(await sink.write(*batch))
    assert [dict(await sink.row(f"C{n}")) for n in range(10)] == before
    assert await sink.counts() == {"inserted": 10}
    assert {key: event.version for key, event in second.items()} == {key: e.version for key, e in first.items()}
    for key, event in second.items():
        assert msgspec.json.decode(event.data) == msgspec.json.decode(first[key].data)
        was = first[key].origin
        assert was
        # The driver's records name their topic without the namespace, the sink's ledger with it.
        assert event.origin == msgspec.structs.replace(was, topic=sink.settings.named(was.topic))


async def test_an_older_record_after_a_newer_one_changes_nothing(sink: Driver) -> None:
    await sink.write(customer("C1", 5, first_name="New"))
    events = changes(await sink.write(customer("C1", 4, first_name="Old")))
    assert (await sink.row("C1"))["first_name"] == "New"
    assert msgspec.json.decode(events["C1"].data)["first_name"] == "New"
    assert await sink.counts() == {"inserted": 1, "superseded": 1}
    assert await sink.covered() == "{[4,6)}"


async def test_across_partitions_the_brokers_time_decides(sink: Driver) -> None:
    await sink.write(customer("C1", 90, partition=0, timestamp=2_000, first_name="Later"))
    await sink.write(customer("C1", 91, partition=1, timestamp=1_000, first_name="Earlier"))
    assert (await sink.row("C1"))["first_name"] == "Later"
    await sink.write(customer("C1", 3, partition=1, timestamp=3_000, first_name="Latest"))
    assert (await sink.row("C1"))["first_name"] == "Latest"


async def test_unchanged_content_moves_the_coordinates_but_neither_version_nor_updated_at(sink: Driver) -> None:
    await sink.write(customer("C1", 0))
    before = await sink.row("C1")
    await sink.write(customer("C1", 7))
    after = await sink.row("C1")
    assert (after["version"], after["updated_at"], after["created_at"]) == (
        before["version"],
        None,
        before["created_at"],
    )
    assert after["raw_offset"] == 7
    assert await sink.counts() == {"inserted": 1, "unchanged": 1}


async def test_changed_content_keeps_created_at_and_gets_a_higher_version(sink: Driver) -> None:
    await sink.write(customer("C1", 0))
    before = await sink.row("C1")
    events = changes(await sink.write(customer("C1", 1, account_balance="13.00")))
    after = await sink.row("C1")
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] > before["created_at"]
    assert after["version"] > before["version"]
    assert events["C1"].version == after["version"]
    assert await sink.counts() == {"inserted": 1, "updated": 1}


async def test_within_a_batch_the_newest_of_a_key_wins_and_every_record_counts_once(sink: Driver) -> None:
    await sink.write(*(customer("C1", n, first_name=f"N{n}") for n in (2, 0, 4, 1, 3)))
    assert (await sink.row("C1"))["first_name"] == "N4"
    assert await sink.counts() == {"inserted": 1, "superseded": 4}
    assert await sink.covered() == "{[0,5)}"


async def test_any_order_of_delivery_ends_in_the_same_rows(sink: Driver) -> None:
    arrivals = [customer("C1", n, first_name=f"N{n}", email="same@example.org") for n in range(4)]
    for round_number, order in enumerate(itertools.permutations(range(4))):
        await sink.connection.execute("TRUNCATE customers, coverage, ingest_failures")
        for number in order:
            await sink.write(arrivals[number])
        row = await sink.row("C1")
        assert (row["first_name"], row["raw_offset"]) == ("N3", 3), (round_number, order)
        assert sum((await sink.counts()).values()) == 4


async def test_an_email_of_another_customer_sends_only_that_record_to_failures(sink: Driver) -> None:
    await sink.write(customer("C1", 0, email="x@example.org"))
    outgoing = await sink.write(customer("C2", 1), customer("C3", 2, email="x@example.org"), customer("C4", 3))
    assert await sink.failures() == [("C3", "email_conflict")]
    [failed] = failures(outgoing)
    assert (failed.key, failed.stage, failed.origin.offset) == ("C3", "postgres", 2)
    assert "x@example.org" in failed.message
    assert "C1" in failed.message
    assert set(changes(outgoing)) == {"C2", "C4"}
    assert await sink.counts() == {"inserted": 3, "failed": 1}
    assert await sink.covered() == "{[0,4)}"


async def test_of_two_new_customers_with_one_email_the_earlier_arrival_keeps_it(sink: Driver) -> None:
    await sink.write(customer("C9", 1, email="x@example.org"), customer("C1", 2, email="x@example.org"))
    assert await sink.row("C9") is not None
    assert await sink.failures() == [("C1", "email_conflict")]


async def test_an_email_given_up_earlier_in_the_batch_may_be_taken(sink: Driver) -> None:
    await sink.write(customer("A", 0, email="x@example.org"), customer("B", 1, email="y@example.org"))
    await sink.write(
        customer("A", 2, email="z@example.org"),
        customer("B", 3, email="x@example.org"),
        customer("C", 4, email="y@example.org"),
    )
    emails = {key: (await sink.row(key))["email"] for key in "ABC"}
    assert emails == {"A": "z@example.org", "B": "x@example.org", "C": "y@example.org"}
    assert await sink.failures() == []


async def test_a_conflicting_record_gives_way_to_the_older_one_that_it_overtook(sink: Driver) -> None:
    await sink.write(customer("A", 0, email="x@example.org"))
    await sink.write(customer("B", 1, first_name="Kept"), customer("B", 2, email="x@example.org"))
    assert (await sink.row("B"))["first_name"] == "Kept"
    assert await sink.failures() == [("B", "email_conflict")]
    assert await sink.counts() == {"inserted": 2, "failed": 1}


async def test_a_repeated_conflict_is_reported_again_and_counted_once(sink: Driver) -> None:
    await sink.write(customer("A", 0, email="x@example.org"))
    conflict = customer("B", 1, email="x@example.org")
    [first] = failures(await sink.write(conflict))
    [again] = failures(await sink.write(conflict))
    assert again == msgspec.structs.replace(first, kind=None)
    await sink.write(first)  # read back from the failures topic
    assert await sink.counts() == {"inserted": 1, "failed": 1}
    assert len(await sink.failures()) == 1


async def test_records_that_postgres_refuses_are_singled_out(sink: Driver) -> None:
    batch = [customer(f"C{n:03}", n) for n in range(100)]
    batch[17] = customer("C017", 17, date_of_birth="2024-02-31")
    batch[63] = customer("C063", 63, account_balance="99999999999999999.00")
    batch[64] = customer("C064", 64, first_name="x" * 101)
    outgoing = await sink.write(*batch)
    assert await sink.failures() == [(key, "postgres_refused") for key in ("C017", "C063", "C064")]
    assert len(failures(outgoing)) == 3
    assert await sink.counts() == {"inserted": 97, "failed": 3}
    assert await sink.covered() == "{[0,100)}"


async def test_failures_of_the_normalizer_are_kept_and_counted(sink: Driver) -> None:
    failed = FailedRecord(
        dataset="customers",
        stage="normalizer",
        reason="invalid",
        message="a NUL: \x00",
        origin=Origin("customers.raw", 0, 3, 5),
        failed_at=1_700_000_000_000,
        payload=b"\xff\x00raw",
    )
    await sink.write(failed)
    await sink.write(failed)
    row = await sink.connection.fetchrow("SELECT * FROM ingest_failures")
    assert (row["payload"], row["message"]) == (b"\xff\x00raw", "a NUL: \ufffd")
    assert await sink.counts() == {"failed": 1}
    assert await sink.covered() == "{[3,4)}"


async def test_a_refusal_by_elasticsearch_is_kept_but_does_not_unstore_the_record(sink: Driver) -> None:
    await sink.write(customer("C1", 0))
    origin = Origin("customers.raw", 0, 0, 5)
    await sink.write(FailedRecord("customers", "elasticsearch", "elasticsearch_refused", "no", origin, 1))
    assert await sink.failures() == [("", "elasticsearch_refused")]
    assert await sink.counts() == {"inserted": 1}


async def test_datasets_with_a_generated_id_announce_it(sink: Driver) -> None:
    events = changes(await sink.write(record("1", 0), record("2", 1), record("1", 2, name="Other")))
    rows = await sink.connection.fetch("SELECT id, source_id, name FROM normalized_data ORDER BY source_id")
    assert [(row["source_id"], row["name"]) for row in rows] == [("1", "Other"), ("2", "Passenger")]
    assert msgspec.json.decode(events["titanic:1"].data)["id"] == rows[0]["id"]
    repeated = changes(await sink.write(record("2", 1)))
    assert msgspec.json.decode(repeated["titanic:2"].data)["value"] == "7.2500"


async def test_two_writers_of_the_same_batches_count_every_record_once(
    sink: Driver, migrated_settings: Settings
) -> None:
    batches = [[customer(f"C{n:04}", n) for n in range(start, start + 100)] for start in range(0, 1000, 100)]
    async with driver(migrated_settings) as zombie:

        async def run(one: Driver) -> None:
            for batch in batches:
                await one.write(*batch)

        await asyncio.gather(run(sink), run(zombie))
    assert await sink.counts() == {"inserted": 1000}
    assert await sink.covered() == "{[0,1000)}"


async def test_two_writers_racing_for_an_email_leave_exactly_one_owner(
    sink: Driver, migrated_settings: Settings
) -> None:
    async with driver(migrated_settings) as other:
        for n in range(20):
            mail = f"race{n}@example.org"
            await asyncio.gather(
                sink.write(customer(f"A{n}", n, partition=0, email=mail)),
                other.write(customer(f"B{n}", n, partition=1, email=mail)),
            )
    assert await sink.counts() == {"inserted": 20, "failed": 20}
    assert {reason for _, reason in await sink.failures()} == {"email_conflict"}


async def test_undecodable_messages_count_once_towards_the_failure_limit_however_often_they_come(
    migrated_settings: Settings,
) -> None:
    limited = migrated_settings.model_copy(update={"failure_limit_records": 10, "failure_limit_percent": 50})
    async with driver(limited) as sink:
        broken = [
            FailedRecord("customers", "postgres", "clean_form", "x", Origin("customers.raw", 0, n, n), 1, payload=b"{}")
            for n in range(5)
        ]
        for _ in range(4):  # as while Kafka is away, and their originals cannot be read
            await sink.sink.store(sink.connection, Batch(undecodable=broken))
        assert await sink.counts() == {"failed": 5}


async def test_undecodable_messages_of_one_dataset_do_not_count_for_another(migrated_settings: Settings) -> None:
    limited = migrated_settings.model_copy(update={"failure_limit_records": 10})

    def broken(dataset: str, offset: int) -> FailedRecord:
        origin = Origin(f"{dataset}.raw", 0, offset, offset)
        return FailedRecord(dataset, "postgres", "clean_form", "x", origin, 1, payload=b"{}")

    async with driver(limited) as sink:
        for offset in range(0, 9, 3):
            several = [broken(dataset, offset + n) for dataset in ("customers", "orders") for n in range(3)]
            await sink.sink.store(sink.connection, Batch(undecodable=several))
        assert await sink.counts() == {"failed": 18}
        with pytest.raises(FailureLimitReached, match="10 of the latest 10 records of messages of orders"):
            await sink.sink.store(sink.connection, Batch(undecodable=[broken("customers", 0), broken("orders", 9)]))
        assert await sink.counts() == {"failed": 18}


RAISING = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.customer_id = 'C2' THEN RAISE EXCEPTION 'not this one' {}; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION refuse()"""


async def test_a_record_that_a_trigger_of_somebody_else_refuses_fails_alone(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.connection.execute(RAISING.format(""))
        told = await postgres.write(*(customer(f"C{number}", number) for number in range(1, 4)))
        assert set(changes(told)) == {"C1", "C3"}
        assert await postgres.failures() == [("C2", "postgres_refused")]
        assert await postgres.counts() == {"inserted": 2, "failed": 1}


async def test_an_error_of_its_own_in_a_trigger_holds_up_its_dataset_alone(migrated_settings: Settings) -> None:
    async with driver(migrated_settings) as postgres:
        await postgres.connection.execute(RAISING.format("USING ERRCODE = 'HR001'"))
        with pytest.raises(DatasetMisfit, match="not this one") as misfit:
            await postgres.write(*(customer(f"C{number}", number) for number in range(1, 4)))
        assert misfit.value.dataset.name == "customers"
        assert await postgres.counts() == {}
