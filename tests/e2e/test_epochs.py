"""Recreated raw topics, more partitions, consumers that were reset by hand: nothing is lost or doubled."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from monitoring.lag import read_lag
from runtime.kafka.clients import consumer_config, producer_config
from runtime.kafka.group_members import end_memberships
from runtime.kafka.topic_admin import ensure_topics, partition_counts
from runtime.settings import Settings
from services.audits.audit import MovedKeys, PartitionAudit, audit, whole_audit
from stores.epochs import note_epochs
from stores.postgres_engine import postgres_engine
from tests.e2e.stores import rows, value
from tests.foreign_batches import Record, batch, send_batch
from tests.processes import Pipeline
from tests.recreated_topic import recreate
from tests.waiting import eventually

ROLES = ("normalizer", "sink postgres", "sink landing")
RAW = "customers.raw"


def test_a_recreated_raw_topic_begins_an_epoch_and_nothing_is_taken_for_a_repeat(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    asyncio.run(note_epochs(settings))
    with Pipeline(settings, tmp_path, ROLES):
        publish(settings, [customer(number, "old") for number in range(200)] + ["garbage"])
        eventually(lambda: settled(settings) and stored(settings, "old") == 200, what="the old epoch is stored")
    recreate(settings, settings.named(RAW))
    unnoticed = audited(settings)
    assert all(row.covered == 0 for row in unnoticed), "nobody has booked a record of the new topic"

    # Fewer than before, so that each new offset was covered once; other contents, one delete, one more failure.
    publish(settings, [customer(number, "new") for number in range(100)] + ["more garbage"])
    publish(settings, [None], key="C0000150")
    with Pipeline(settings, tmp_path, ROLES):
        eventually(lambda: settled(settings) and stored(settings, "new") == 100, what="the new epoch is stored")
        assert stored(settings, "old") == 99
        after = audited(settings)
    assert all(row.clean and not row.in_flight for row in after)
    assert sum(row.covered for row in after) == 102
    assert value(settings, "SELECT count(*) FROM ingest_failures") == 2, "each epoch keeps its failures"
    assert value(settings, "SELECT count(*) FROM raw_api_data") == 303, "and its landed records"
    archived = "SELECT sum(inserted + failed) FROM coverage WHERE topic = $1"
    assert value(settings, archived, f"{settings.named(RAW)}@0") == 201
    assert value(settings, "SELECT max(epoch) FROM topic_epochs WHERE topic = $1", settings.named(RAW)) == 1


def test_a_topic_that_is_recreated_under_running_workers_loses_nothing(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    asyncio.run(note_epochs(settings))
    with Pipeline(settings, tmp_path, ROLES) as pipeline:
        publish(settings, [customer(number, "old") for number in range(100)])
        eventually(lambda: settled(settings) and stored(settings, "old") == 100, what="the old epoch is stored")
        recreate(settings, settings.named(RAW))
        publish(settings, [customer(number, "new") for number in range(100)])
        # They stand where the new topic ends, and would wait there for ever.
        for role in ("normalizer", "sink landing"):
            eventually(lambda role=role: pipeline[role].exit_code, what=f"{role} ends, and the supervisor starts it")  # type: ignore[misc]
            pipeline[role].start()
        eventually(lambda: stored(settings, "new") == 100, what="the new epoch is stored", within=60)
        landed = "SELECT count(*) FROM raw_api_data"
        eventually(lambda: value(settings, landed) == 200, what="the landing tables have both epochs")
        eventually(lambda: settled(settings), what="nothing is in flight")
        after = audited(settings)
    assert all(row.clean for row in after)
    assert sum(row.covered for row in after) == 100


def test_records_that_are_older_than_their_recreated_topic_are_its_own(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    """Somebody has made the topic by hand, so its records have their producer's times, as a mirror's have."""
    settings, raw = pipeline_settings, pipeline_settings.named(RAW)
    with Pipeline(settings, tmp_path, ROLES):
        publish(settings, [customer(number, "old") for number in range(10)], partition=0)
        eventually(lambda: settled(settings) and stored(settings, "old") == 10, what="the old epoch is stored")
    recreate(settings, raw, by_hand=True)
    now = round(time.time() * 1000)
    times = [now, *(now - hours * 3_600_000 for hours in range(8)), -5]
    new = [json.dumps(customer(100 + number, "new")).encode() for number in range(10)]
    records = [Record(b"", value, (), at) for value, at in zip(new, times, strict=True)]
    asyncio.run(send_batch(settings, raw, batch(records)))
    with Pipeline(settings, tmp_path, ROLES):
        eventually(lambda: stored(settings, "new") == 10, what="the new epoch is stored")
        eventually(lambda: value(settings, "SELECT count(*) FROM raw_api_data") == 20, what="all are landed")
        eventually(lambda: settled(settings), what="nothing is in flight")
        after = audited(settings)
    assert all(row.clean for row in after)
    assert sum(row.covered for row in after) == 10


def test_a_topic_that_a_sink_has_missed_for_a_while_is_read_when_it_is_there_again(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    """A static member that comes back within its session is handed what it had, without the topic that was away."""
    settings, raw = pipeline_settings, pipeline_settings.named(RAW)
    with Pipeline(settings, tmp_path, ROLES) as pipeline:
        publish(settings, [customer(1, "old")])
        eventually(lambda: settled(settings) and stored(settings, "old") == 1, what="the old epoch is stored")
        recreate(settings, raw, away_until=lambda: pipeline["sink landing"].logged("partitions_revoked"))
        publish(settings, [customer(2, "new")])
        for role in ("normalizer", "sink landing"):
            eventually(lambda role=role: pipeline[role].exit_code, what=f"{role} ends, and the supervisor starts it")  # type: ignore[misc]
            pipeline[role].start()
        eventually(lambda: stored(settings, "new") == 1, what="the new epoch is stored")
        eventually(lambda: value(settings, "SELECT count(*) FROM raw_api_data") == 2, what="it is landed")


def test_partitions_are_added_and_the_newest_record_of_each_key_holds(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    with Pipeline(settings, tmp_path, ROLES):
        publish(settings, [customer(number, "before") for number in range(300)])
        eventually(lambda: stored(settings, "before") == 300, what="all are stored")
    more = settings.model_copy(update={"topic_partitions": settings.topic_partitions + 3})
    assert ensure_topics(more) == []
    counts = partition_counts(more)
    assert {count for name, count in counts.items() if name.startswith(more.namespace)} == {more.topic_partitions}
    with Pipeline(more, tmp_path, ROLES):
        publish(more, [customer(number, "after") for number in range(300)])
        eventually(lambda: settled(more) and stored(more, "after") == 300, what="the newer ones hold")
        after = audited(more)
        # What was before comes again, from the old partitions, and is older now.
        moved = moves(more)
    assert len({row.partition for row in after if row.covered}) > settings.topic_partitions
    assert all(row.clean for row in after)
    assert len(moved) == 1
    assert 0 < moved[0].keys == moved[0].records < 300


def test_a_key_from_another_partitioner_is_ordered_by_time_and_counted(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    settings = pipeline_settings
    with Pipeline(settings, tmp_path, ROLES):
        for partition, name in ((0, "first"), (2, "second"), (1, "third")):
            publish(settings, [customer(1, name)], partition=partition)
            eventually(lambda name=name: stored(settings, name) == 1, what=f"the {name} holds")  # type: ignore[misc]
        eventually(lambda: settled(settings), what="nothing is in flight")
        assert all(row.clean for row in audited(settings))
    assert moves(settings) == [MovedKeys("customers", keys=1, records=2)]


def test_offsets_that_are_reset_by_hand_change_nothing(pipeline_settings: Settings, tmp_path: Path) -> None:
    settings = pipeline_settings
    with Pipeline(settings, tmp_path, ROLES):
        publish(settings, [customer(number % 50, f"v{number}") for number in range(200)] + ["garbage"])
        publish(settings, [None], key="C0000007")
        eventually(lambda: settled(settings) and covered(settings) == 202, what="all have an outcome")
    before, books = everything(settings), audited(settings)
    for group, topics in (("normalizer", [RAW]), ("sink-postgres", ["customers.clean", "failures"])):
        reset(settings, group, topics)
        with Pipeline(settings, tmp_path, ROLES):
            eventually(lambda: settled(settings), what=f"{group} has read all of it again")
        assert everything(settings) == before, f"{group}: versions and updated_at included"
        assert [row.outcomes for row in audited(settings)] == [row.outcomes for row in books]


def customer(number: int, name: str) -> dict[str, Any]:
    return {
        "customer_id": f"C{number:07}",
        "first_name": name,
        "last_name": "L",
        "email": f"c{number}@example.org",
    }


def publish(settings: Settings, contents: list[Any], *, key: str | None = None, partition: int | None = None) -> None:
    """Records in the order given, each on the disk before the next one gets its time where a partition is named."""
    producer = Producer(producer_config(settings))
    for content in contents:
        named = key or (content["customer_id"] if isinstance(content, dict) else None)
        text = json.dumps(content) if isinstance(content, dict) else content
        producer.produce(settings.named(RAW), text, named, -1 if partition is None else partition)
    assert producer.flush(60) == 0


def reset(settings: Settings, group: str, topics: list[str]) -> None:
    """Commit offset 0 for the whole group, when nobody is in it, as `kafka-consumer-groups --reset-offsets` does."""
    end_memberships(settings)
    consumer = Consumer(consumer_config(settings, group, **{"group.instance.id": ""}))
    places = [TopicPartition(settings.named(t), p, 0) for t in topics for p in range(settings.topic_partitions)]
    eventually(lambda: consumer.commit(offsets=places, asynchronous=False), what="the group is empty")
    consumer.close()


def stored(settings: Settings, name: str) -> int:
    return int(value(settings, "SELECT count(*) FROM customers WHERE first_name = $1", name))


def covered(settings: Settings) -> int:
    return int(value(settings, "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM coverage, unnest(ranges) r"))


def settled(settings: Settings) -> bool:
    at_work = {settings.named(role.replace(" ", "-")) for role in ROLES}
    return sum(row.lag for row in asyncio.run(read_lag(settings)) if row.group in at_work) == 0


def everything(settings: Settings) -> list[dict[str, Any]]:
    found = rows(settings, "SELECT * FROM customers ORDER BY customer_id")
    return [*found, *rows(settings, "SELECT * FROM tombstones"), *rows(settings, "SELECT * FROM ingest_failures")]


def audited(settings: Settings) -> list[PartitionAudit]:
    found: list[PartitionAudit] = with_engine(settings, lambda engine: audit(settings, engine))
    return found


def moves(settings: Settings) -> list[MovedKeys]:
    found: list[MovedKeys] = with_engine(settings, lambda engine: whole_audit(settings, engine)).moved
    return found


def with_engine(settings: Settings, work: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        engine = postgres_engine(settings)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())
